<?php
/**
 * What mkiso.php, mkiso2.php and mkiso_multiple.php have in common: from accession numbers to a file-set in a folder.
 *
 * Where the spool is, and how long to wait, is said by the environment: MKISOD_SPOOL, MKISOD_TIMEOUT_S.
 */

declare(strict_types=1);

require_once __DIR__ . '/../Mkisod.php';

/**
 * Put the file-set of these accession numbers into $dicomdir, which is empty or not there yet, and have it sent to the destinations.
 *
 * Returns '' if all of it was done, else what went wrong. Nothing stands in $dicomdir unless the disc is whole; it does stand there if only
 * the sending failed, or takes longer than we wait. If it takes more than one volume, each has a folder of its own there.
 */
function mkisod_make_disc(array $accessions, string $dicomdir, array $destinations = []): string
{
    $mkisod = new Mkisod\Client(getenv('MKISOD_SPOOL') ?: '/var/spool/mkisod');
    $ticket = null;
    $complaint = '';
    try {
        $dicomdir = Mkisod\Client::checkTarget($dicomdir);
        $request = (new Mkisod\Request($accessions))->output('dir');
        if ($destinations !== []) {
            $request->forward(...$destinations);
        }
        $ticket = $mkisod->submit($request);
        try {
            $mkisod->wait($ticket, (float) (getenv('MKISOD_TIMEOUT_S') ?: 3600));
        } catch (Mkisod\Failure $failure) {
            if (!mkisod_disc_is_whole($failure->getStatus())) {
                throw $failure;
            }
            $complaint = "The disc is in $dicomdir, but not all of it has been sent. " . mkisod_explain($failure);
        }
        if (count($mkisod->volumes($ticket)) === 1) {
            $mkisod->copyFileSet($ticket, $dicomdir);
        } else {
            $mkisod->copyResult($ticket, $dicomdir);
        }
        if ($complaint === '') {
            $mkisod->discard($ticket);
        }
    } catch (Mkisod\Failure $failure) {
        $complaint = mkisod_explain($failure);
        if ($ticket !== null && $failure->getErrorCode() === 'wait_timeout') {
            $complaint .= mkisod_give_up($mkisod, $ticket);
        }
    }
    return $complaint === '' || $ticket === null ? $complaint : "$complaint (ticket $ticket)";
}

/** Whether all that was asked for has been published, whatever became of it afterwards. */
function mkisod_disc_is_whole(?array $status): bool
{
    if ($status === null || $status['result'] === null) {
        return false;
    }
    foreach ($status['accessions'] as $accession) {
        if (array_filter(array_column($accession['studies'], 'missing')) !== []) {
            return false;
        }
    }
    return true;
}

/** Withdraw a request that nobody waits for any more. Returns what to add to the complaint. */
function mkisod_give_up(Mkisod\Client $mkisod, string $ticket): string
{
    try {
        $mkisod->cancel($ticket);
        return ' It has been cancelled.';
    } catch (Mkisod\Failure $failure) {
        return ' It could not be cancelled: ' . mkisod_explain($failure);
    }
}

function mkisod_explain(Mkisod\Failure $failure): string
{
    return "{$failure->getMessage()} {$failure->getAdvice()} [{$failure->getErrorCode()}]";
}

/** The command line's arguments if $script was called itself; null if another script included it. */
function mkisod_arguments(string $script, int $least, string $usage): ?array
{
    if (PHP_SAPI !== 'cli' || realpath($_SERVER['SCRIPT_FILENAME']) !== $script) {
        return null;
    }
    $arguments = array_slice($_SERVER['argv'], 1);
    if (count($arguments) < $least) {
        fwrite(STDERR, "usage: php $usage\n");
        exit(2);
    }
    return $arguments;
}

/** The result of a script: its exit status on the command line, what `include` returns elsewhere. 0 if there is no complaint. */
function mkisod_end(string $complaint, ?array $arguments): int
{
    if ($complaint !== '' && PHP_SAPI === 'cli') {
        fwrite(STDERR, "$complaint\n");
    } elseif ($complaint !== '') {
        error_log("mkisod: $complaint");
    }
    if ($arguments !== null) {
        exit($complaint === '' ? 0 : 1);
    }
    return $complaint === '' ? 0 : 1;
}
