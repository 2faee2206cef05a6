<?php
/**
 * The client of mkisod: asks for a patient's disc by accession number, follows the request, takes the result.
 *
 * One file without dependencies, for PHP 7.2 and later. Client and daemon share nothing but the spool's folders; docs/contract.md says what
 * stands in the files. Whatever goes wrong is a `Failure`, with the daemon's code, sentence and advice where they are the daemon's.
 *
 *     $mkisod = new Mkisod\Client('/var/spool/mkisod');
 *     $ticket = $mkisod->submit(new Mkisod\Request(['MR.180505.026']));
 *     $mkisod->wait($ticket, 3600);
 *     $mkisod->copyResult($ticket, '/srv/discs/4711');
 */

declare(strict_types=1);

namespace Mkisod;

/**
 * What went wrong. `getMessage()` is one sentence, `getAdvice()` what to do about it.
 *
 * The codes are those of `error.code` in docs/contract.md, and four more of this client:
 * `spool_unusable`, `wait_timeout`, `result_unusable`, `target_unusable`.
 */
final class Failure extends \RuntimeException
{
    /** @var string */
    private $errorCode;
    /** @var string */
    private $advice;
    /** @var bool */
    private $transient;
    /** @var array|null */
    private $status;

    public function __construct(string $errorCode, string $message, string $advice, bool $transient = false, ?array $status = null)
    {
        parent::__construct($message);
        $this->errorCode = $errorCode;
        $this->advice = $advice;
        $this->transient = $transient;
        $this->status = $status;
    }

    public function getErrorCode(): string
    {
        return $this->errorCode;
    }

    public function getAdvice(): string
    {
        return $this->advice;
    }

    /** Whether the same may succeed later without anybody doing anything. */
    public function isTransient(): bool
    {
        return $this->transient;
    }

    /** The status that says so, if one does. */
    public function getStatus(): ?array
    {
        return $this->status;
    }
}

/**
 * What is asked for. Every method but `text` is called like the directive it writes, takes it as it would stand in the file, and returns
 * the request itself. A value that the daemon would refuse is a `Failure` at once.
 */
final class Request
{
    private const MAX_ACCESSIONS = 1000;
    private const MAX_REQUEST_BYTES = 1048576;

    /** What has no place in a value: control characters. */
    private const CONTROL = '/[\x00-\x1f\x7f-\x9f]/u';
    /** White space other than the blanks and tabs that are trimmed off a line. */
    private const SPACE = '[\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]';
    private const NAME = '/\A[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\z/';

    /** @var string[] */
    private $accessions = [];
    /** @var string[] directive => its line */
    private $directives = [];

    /** @param string[] $accessions accession numbers, 1 to 1,000; blanks around them are trimmed, repeats collapse */
    public function __construct(array $accessions)
    {
        $bad = [];
        foreach ($accessions as $accession) {
            $accession = self::trimLine((string) $accession);
            $fault = self::findAccessionFault($accession);
            if ($fault === null) {
                $this->accessions[] = $accession;
            } else {
                $bad[] = self::quote($accession) . ': ' . $fault;
            }
        }
        $this->accessions = array_unique($this->accessions);
        if ($bad !== []) {
            throw new Failure(
                'accession_invalid',
                'The request is refused: ' . implode('; ', array_slice($bad, 0, 50)) . '.',
                'Correct the named accession numbers (1 to 16 characters, no *, ?, backslash or control character).'
            );
        }
        if ($this->accessions === []) {
            throw self::refuse('there is no accession number in it');
        }
        if (count($this->accessions) > self::MAX_ACCESSIONS) {
            throw self::refuse(count($this->accessions) . ' accession numbers, at most ' . self::MAX_ACCESSIONS . ' are allowed');
        }
    }

    /**
     * Why a text is no accession number, or null.
     *
     * The daemon's own rules (VR SH, PS3.5 6.2, used as a single-value key), and one more: as a line of a request, what begins with @ or #
     * would be something else.
     */
    public static function findAccessionFault(string $accession): ?string
    {
        $accession = self::trimLine($accession);
        if ($accession === '') {
            return 'an accession number must not be empty';
        }
        if (preg_match('//u', $accession) !== 1) {
            return 'an accession number must be in UTF-8';
        }
        if ($accession[0] === '@' || $accession[0] === '#') {
            return 'an accession number must not begin with @ or #, which have a meaning of their own in a request';
        }
        $length = preg_match_all('/./su', $accession);
        if ($length > 16) {
            return 'an accession number has at most 16 characters, this one has ' . $length;
        }
        if (preg_match(self::CONTROL, $accession) === 1) {
            return 'an accession number must not contain control characters';
        }
        if (preg_match('/\A' . self::SPACE . '|' . self::SPACE . '\z/u', $accession) === 1) {
            return 'an accession number must not begin or end with white space, of which a no-break space is one';
        }
        if (strpos($accession, '\\') !== false) {
            return 'an accession number must not contain a backslash, which separates values in DICOM';
        }
        if (strpbrk($accession, '*?') !== false) {
            return 'an accession number must not contain * or ?, which would match other patients\' studies';
        }
        return null;
    }

    /** Which PACS of the daemon's configuration; the first one if not said. */
    public function pacs(string $name): self
    {
        return $this->add('@pacs', [$name], 1, self::NAME, 'a PACS name');
    }

    /** Only series of these modalities, such as CT MR. */
    public function modality(string ...$modalities): self
    {
        return $this->add('@modality', $modalities, null, '/\A[A-Z0-9_]{1,16}\z/', 'modalities such as CT MR');
    }

    /** What to publish: dir, iso, zip. */
    public function output(string ...$kinds): self
    {
        return $this->add('@output', $kinds, null, '/\A(dir|iso|zip)\z/', 'dir, iso, zip');
    }

    /** The Patient ID that every study must have. Say it where you know it: a mistyped accession number is a perfect disc of a stranger. */
    public function patient(string $patientId): self
    {
        $patientId = implode(' ', self::split($patientId));
        $length = preg_match_all('/./su', $patientId);
        if (!$length || $length > 64 || strpos($patientId, '\\') !== false || preg_match(self::CONTROL, $patientId) === 1) {
            throw self::refuse('@patient takes a Patient ID of 1 to 64 characters without backslash and control characters');
        }
        return $this->set('@patient', $patientId);
    }

    /** The birth date that the patient must have, as YYYYMMDD. */
    public function birthdate(string $date): self
    {
        // Not shown when it is wrong: messages end up in logs.
        $words = self::split($date);
        if (count($words) !== 1 || preg_match('/\A[0-9]{4}(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])\z/', $words[0]) !== 1) {
            throw self::refuse('@birthdate takes a date as YYYYMMDD');
        }
        return $this->set('@birthdate', $words[0]);
    }

    /** The medium that volumes are cut to: cd, dvd, dvd-dl, usb, or a size in MiB. */
    public function media(string $medium): self
    {
        return $this->add('@media', [$medium], 1, '/\A(cd|dvd|dvd-dl|usb|[1-9][0-9]{0,6})\z/', 'cd, dvd, dvd-dl, usb or a size in MiB');
    }

    /** A profile of PS3.11 such as STD-GEN-CD, auto, or as-received. */
    public function profile(string $name): self
    {
        return $this->add('@profile', [$name], 1, self::NAME, 'a profile name');
    }

    /** File-set ID of the disc: A-Z 0-9 _, at most 16 characters. */
    public function label(string $text): self
    {
        return $this->add('@label', [$text], 1, '/\A[A-Z0-9_]{1,16}\z/', '1 to 16 characters out of A-Z 0-9 _');
    }

    /** Afterwards send everything to these destinations of the daemon's configuration. */
    public function forward(string ...$destinations): self
    {
        return $this->add('@forward', $destinations, null, self::NAME, 'destination names');
    }

    /** high, normal or low. */
    public function priority(string $priority): self
    {
        return $this->add('@priority', [$priority], 1, '/\A(high|normal|low)\z/', 'high, normal or low');
    }

    /** partial: publish although instances are missing. several-patients: on one disc. */
    public function allow(string ...$permissions): self
    {
        return $this->add('@allow', $permissions, null, '/\A(partial|several-patients)\z/', 'partial, several-patients');
    }

    /** The request as it stands in its file. */
    public function text(): string
    {
        return implode("\n", array_merge(['# written by Mkisod.php'], array_values($this->directives), $this->accessions, ['@end', '']));
    }

    /** A directive whose words all match a pattern. As in the file, words are separated by blanks and tabs. */
    private function add(string $directive, array $texts, ?int $count, string $pattern, string $what): self
    {
        $words = self::split(implode(' ', $texts));
        if ($words === [] || ($count !== null && count($words) !== $count)) {
            throw self::refuse("$directive takes $what");
        }
        foreach ($words as $word) {
            if (preg_match($pattern, $word) !== 1) {
                throw self::refuse("$directive takes $what, not " . self::quote($word));
            }
        }
        return $this->set($directive, implode(' ', array_unique($words)));
    }

    private function set(string $directive, string $value): self
    {
        $this->directives[$directive] = "$directive $value";
        if (strlen($this->text()) > self::MAX_REQUEST_BYTES) {
            throw self::refuse('it is larger than 1 MiB');
        }
        return $this;
    }

    /** @return string[] */
    private static function split(string $text): array
    {
        $words = preg_split('/[ \t]+/u', rtrim($text, " \t\r"), -1, PREG_SPLIT_NO_EMPTY);
        if ($words === false) {
            throw self::refuse('it is not in UTF-8');
        }
        return $words;
    }

    /** As the daemon trims a line. */
    private static function trimLine(string $text): string
    {
        return trim($text, " \t\r");
    }

    private static function refuse(string $reason): Failure
    {
        return new Failure('request_malformed', "The request is refused: $reason.", 'Correct it and submit it again.');
    }

    /** Part of a text, fit for a message: printable ASCII, at most 40 characters. */
    private static function quote(string $text): string
    {
        $shown = strlen($text) <= 40 ? $text : substr($text, 0, 37) . '...';
        return "'" . preg_replace_callback('/[^\x20-\x7e]/', function (array $match): string {
            return sprintf('\\x%02x', ord($match[0]));
        }, $shown) . "'";
    }
}

/** Drops requests into one spool, and reads what the daemon says about them. Holds no state: a ticket is all there is to remember. */
final class Client
{
    private const TICKET = '/\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z/';
    private const JOB = '/\A[0-9]{8}T[0-9]{6}Z-[a-z0-9]{6}\z/';
    private const FILE_MODE = 0640;
    private const CHUNK_BYTES = 1048576;
    private const ASK_GROUP = 'Run PHP as a member of the group that may drop requests, and see that the daemon has been started once.';

    /** The status moves at most once a second, so nobody needs to look more often for long. */
    private const FIRST_INTERVAL_S = 0.1;
    private const LAST_INTERVAL_S = 1.0;

    /** @var string */
    private $spool;

    public function __construct(string $spool = '/var/spool/mkisod')
    {
        $this->spool = rtrim($spool, '/');
    }

    /** A ticket that nobody guesses: who knows it can read the result. Store it before `submit`, and a crash of PHP loses no request. */
    public static function makeTicket(): string
    {
        return 'php-' . gmdate('Ymd\THis') . '-' . bin2hex(random_bytes(16));
    }

    /**
     * Drop a request. Returns its ticket: a fresh one, or the one given, which must not have been used.
     *
     * The request survives the death of PHP from here on. It is accepted, and survives a power cut too, once there is a status.
     */
    public function submit(Request $request, ?string $ticket = null): string
    {
        $ticket = $ticket === null ? self::makeTicket() : $ticket;
        if (is_file($this->drop($ticket, 'req')) || is_file($this->statusFile($ticket))) {
            throw new Failure('request_malformed', 'This ticket has been used already.', 'Use a fresh ticket for each request.');
        }
        $this->write($this->drop($ticket, 'req'), $request->text());
        return $ticket;
    }

    /**
     * The status as docs/contract.md describes it, as an array; null while there is none.
     *
     * A request that has been dropped gets one as soon as the daemon has accepted it.
     */
    public function status(string $ticket): ?array
    {
        $file = $this->statusFile($ticket);
        clearstatcache();
        $text = self::quietly(function () use ($file) {
            return file_get_contents($file);
        }, $why);
        if ($text === false) {
            if (is_file($file) || !is_executable(dirname($file, 2))) {
                throw new Failure('spool_unusable', "The status of $ticket cannot be read: $why.", self::ASK_GROUP);
            }
            return null;
        }
        $status = json_decode($text, true);
        if (!is_array($status) || !isset($status['version'], $status['state']) || $status['version'] !== 1) {
            $advice = 'See that this client and the daemon are of the same version.';
            throw new Failure('result_unusable', "The status of $ticket cannot be understood.", $advice);
        }
        return $status;
    }

    /**
     * Wait until a request is done, and return its status. `$onProgress` is called with each new status.
     *
     * A request that failed or was cancelled is a `Failure` with its code; so is one that is `partial`, with `incomplete` or
     * `forward_failed`, unless `$allowPartial`. `wait_timeout` after `$timeoutS` seconds: the request itself goes on until it is cancelled.
     */
    public function wait(string $ticket, float $timeoutS, ?callable $onProgress = null, bool $allowPartial = false): array
    {
        $end = self::clockS() + $timeoutS;
        $intervalS = self::FIRST_INTERVAL_S;
        $seen = null;
        while (true) {
            // In this order: a status that is read after the word has been obeyed is the one that follows from it.
            clearstatcache();
            $asked = is_file($this->drop($ticket, 'publish'));
            $status = $this->status($ticket);
            if ($status !== null && $status !== $seen) {
                $seen = $status;
                if ($onProgress !== null) {
                    $onProgress($status);
                }
            }
            if ($status !== null && $status['finished'] && !$asked) {
                return self::demand($status, $allowPartial);
            }
            $leftS = $end - self::clockS();
            if ($leftS <= 0) {
                throw self::timeOut($status, $timeoutS);
            }
            usleep((int) (1e6 * min($intervalS, $leftS)));
            $intervalS = min(self::LAST_INTERVAL_S, $intervalS * 1.5);
        }
    }

    /** Withdraw a request, at any moment before it is published. Its state becomes `cancelled` a moment later. */
    public function cancel(string $ticket): void
    {
        $this->say($ticket, 'cancel');
    }

    /** Let a deferred request, or a failed one that is `incomplete`, be published as `partial` after all. */
    public function publish(string $ticket): void
    {
        $this->say($ticket, 'publish');
    }

    /** Remove the result of a finished request before its time: it has been copied, or burned. */
    public function discard(string $ticket): void
    {
        $this->say($ticket, 'discard');
    }

    /**
     * The volumes of a published result: `result.volumes` of the status, with `directory`, `image` and `archive` as absolute paths, null
     * where not asked for. No path leads out of the result.
     */
    public function volumes(string $ticket): array
    {
        $status = $this->published($ticket);
        $result = $this->resultFolder($status);
        return array_map(function (array $volume) use ($result): array {
            foreach (['directory', 'image', 'archive'] as $kind) {
                $volume[$kind] = $volume[$kind] === null ? null : self::inside($result, $volume[$kind]);
            }
            return $volume;
        }, $status['result']['volumes']);
    }

    /**
     * Copy the result into a folder that is not there yet, or empty: the file-sets, images and archives, and SHA256SUMS.
     *
     * Every file is compared with SHA256SUMS. The folder gets its name last, so half a copy is never found under it.
     */
    public function copyResult(string $ticket, string $folder): void
    {
        $this->copy($this->published($ticket), '', $folder);
    }

    /** Copy the file-set of one volume, counted from 1, so that its DICOMDIR stands in the folder itself. Otherwise like `copyResult`. */
    public function copyFileSet(string $ticket, string $folder, int $number = 1): void
    {
        $status = $this->published($ticket);
        $volumes = $status['result']['volumes'];
        if (!isset($volumes[$number - 1]['directory'])) {
            throw new Failure('result_unusable', "The result has no file-set number $number.", "Ask for output('dir').", false, $status);
        }
        $this->copy($status, $volumes[$number - 1]['directory'] . '/', $folder);
    }

    /**
     * Whether a folder can be copied to: it is empty, or not there yet. To be asked before a request that would be made in vain; returns its
     * name without a slash at the end.
     */
    public static function checkTarget(string $folder): string
    {
        $folder = is_link($folder) ? (string) realpath($folder) : rtrim($folder, '/');
        if ($folder === '' || in_array(basename($folder), ['.', '..'], true)) {
            throw self::targetUnusable('The target has no name of its own.');
        }
        if (file_exists($folder) && (!is_dir($folder) || count((array) scandir($folder)) > 2)) {
            throw self::targetUnusable("$folder is there already and not empty. Files of two patients must not be mixed.");
        }
        return $folder;
    }

    // --- The inbox -------------------------------------------------------------------------------------------------------------------

    private function drop(string $ticket, string $suffix): string
    {
        return $this->spool . '/inbox/' . self::checkTicket($ticket) . '.' . $suffix;
    }

    private function say(string $ticket, string $word): void
    {
        $status = $this->status($ticket);
        if ($status === null && !is_file($this->drop($ticket, 'req'))) {
            throw new Failure('request_malformed', 'There is no request with this ticket.', 'Check the ticket.');
        }
        // Naming the job: should the ticket ever be used again, the word is not meant for what follows.
        $this->write($this->drop($ticket, $word), $status === null ? '' : $status['job']);
    }

    /** Write a file under a name that the daemon leaves alone, make it durable, and rename it. */
    private function write(string $target, string $text): void
    {
        $temporary = dirname($target) . '/.' . basename($target) . '.' . bin2hex(random_bytes(4)) . '.tmp';
        $done = self::quietly(function () use ($target, $temporary, $text): bool {
            $file = fopen($temporary, 'xb');
            if ($file === false) {
                return false;
            }
            // Before anything is in it: readable for the daemon's group, whatever the umask, and for nobody else.
            $written = chmod($temporary, self::FILE_MODE) && fwrite($file, $text) === strlen($text) && fflush($file)
                && (!function_exists('fsync') || fsync($file));
            return fclose($file) && $written && rename($temporary, $target);
        }, $why);
        if (!$done) {
            self::quietly(function () use ($temporary): bool {
                return is_file($temporary) && unlink($temporary);
            });
            throw new Failure('spool_unusable', 'The request cannot be written to ' . dirname($target) . ": $why.", self::ASK_GROUP);
        }
    }

    // --- The outbox ------------------------------------------------------------------------------------------------------------------

    private function statusFile(string $ticket): string
    {
        return $this->spool . '/outbox/' . self::checkTicket($ticket) . '/status.json';
    }

    /** The status of a request that has a result; else a `Failure` that says why there is none. */
    private function published(string $ticket): array
    {
        $status = $this->status($ticket);
        if ($status === null || $status['result'] === null) {
            if ($status !== null && $status['finished']) {
                self::demand($status, true);
            }
            $advice = 'Wait until the request is done; a result that was discarded or is too old has to be asked for again.';
            throw new Failure('result_unusable', 'There is no result.', $advice, false, $status);
        }
        return $status;
    }

    private function resultFolder(array $status): string
    {
        $ticket = self::checkTicket((string) $status['ticket']);
        $path = (string) $status['result']['path'];
        $folder = preg_match(self::JOB, $path) === 1 ? realpath($this->spool . '/outbox/' . $ticket . '/' . $path) : false;
        if ($folder === false) {
            throw new Failure('result_unusable', 'The result is gone.', 'It was removed after its time. Ask for it again.', false, $status);
        }
        return $folder;
    }

    /** The absolute path of what a result calls `$path`. No link and no dots lead anywhere else. */
    private static function inside(string $result, string $path): string
    {
        if ($path === '' || realpath($result . '/' . $path) !== $result . '/' . $path) {
            throw self::damaged('it names a file that is not in it');
        }
        return $result . '/' . $path;
    }

    private static function damaged(string $why): Failure
    {
        return new Failure('result_unusable', "The result is damaged: $why.", 'Ask for it again, and look at the disk of the spool.');
    }

    // --- Copying ---------------------------------------------------------------------------------------------------------------------

    /** The files of a result below `$prefix`, into `$folder`. SHA256SUMS says which there are. */
    private function copy(array $status, string $prefix, string $folder): void
    {
        $result = $this->resultFolder($status);
        $sums = self::readSums($result);
        $names = array_filter(array_map('strval', array_keys($sums)), function (string $name) use ($prefix): bool {
            return strncmp($name, $prefix, strlen($prefix)) === 0;
        });
        if ($names === []) {
            throw self::damaged('SHA256SUMS names none of its files');
        }
        $folder = self::checkTarget($folder);
        $temporary = dirname($folder) . '/.' . basename($folder) . '.' . bin2hex(random_bytes(8)) . '.tmp';
        try {
            self::demandOf($temporary, function () use ($temporary, $folder): bool {
                return mkdir($temporary, is_dir($folder) ? fileperms($folder) & 0777 : 0777);
            });
            foreach ($names as $name) {
                self::copyFile(self::inside($result, $name), $temporary . '/' . substr($name, strlen($prefix)), $sums[$name]);
            }
            if ($prefix === '') {
                self::copyFile($result . '/SHA256SUMS', $temporary . '/SHA256SUMS', null);
            }
            // Over an empty folder, or where nothing is; rename(2) refuses any other.
            self::demandOf($folder, function () use ($temporary, $folder): bool {
                return rename($temporary, $folder);
            });
        } catch (\Throwable $error) {
            self::removeTree($temporary);
            throw $error;
        }
    }

    /** @return string[] name => digest */
    private static function readSums(string $result): array
    {
        $lines = self::quietly(function () use ($result) {
            return file($result . '/SHA256SUMS', FILE_IGNORE_NEW_LINES);
        });
        if ($lines === false) {
            throw self::damaged('it has no SHA256SUMS');
        }
        $sums = [];
        foreach ($lines as $line) {
            if (preg_match('/\A([0-9a-f]{64}) [ *](.+)\z/', $line, $match) !== 1) {
                throw self::damaged('SHA256SUMS holds a line that is no digest');
            }
            $sums[$match[2]] = $match[1];
        }
        return $sums;
    }

    private static function copyFile(string $source, string $target, ?string $digest): void
    {
        if (!is_dir(dirname($target))) {
            self::demandOf($target, function () use ($target): bool {
                return mkdir(dirname($target), 0777, true);
            });
        }
        $from = self::quietly(function () use ($source) {
            return fopen($source, 'rb');
        }, $why);
        if ($from === false) {
            throw new Failure('spool_unusable', "The result cannot be read: $why.", self::ASK_GROUP);
        }
        $to = self::demandOf($target, function () use ($target) {
            return fopen($target, 'xb');
        });
        $hash = hash_init('sha256');
        while (!feof($from)) {
            $chunk = self::quietly(function () use ($from) {
                return fread($from, self::CHUNK_BYTES);
            }, $why);
            if ($chunk === false) {
                throw new Failure('spool_unusable', "The result cannot be read: $why.", 'Look at the disk of the spool.');
            }
            hash_update($hash, $chunk);
            self::demandOf($target, function () use ($to, $chunk): bool {
                return fwrite($to, $chunk) === strlen($chunk);
            });
        }
        fclose($from);
        self::demandOf($target, function () use ($to): bool {
            return fclose($to);
        });
        if ($digest !== null && hash_final($hash) !== $digest) {
            throw self::damaged(basename($source) . ' has not the content of which SHA256SUMS holds the digest');
        }
    }

    private static function removeTree(string $path): void
    {
        self::quietly(function () use ($path): void {
            if (is_dir($path) && !is_link($path)) {
                foreach (array_diff((array) scandir($path), ['.', '..']) as $name) {
                    self::removeTree($path . '/' . $name);
                }
                rmdir($path);
            } elseif (file_exists($path)) {
                unlink($path);
            }
        });
    }

    /** The outcome of a step that writes to the target, or a `Failure` with what PHP said. */
    private static function demandOf(string $target, callable $step)
    {
        $done = self::quietly($step, $why);
        if ($done === false) {
            throw self::targetUnusable("$target cannot be written: $why.");
        }
        return $done;
    }

    private static function targetUnusable(string $message): Failure
    {
        $advice = 'Name a new or an empty folder, on a disk with room, beside which PHP may make another one.';
        return new Failure('target_unusable', $message, $advice);
    }

    // --- What a status means ---------------------------------------------------------------------------------------------------------

    /** A finished status as it is, if it is as good as demanded; else the `Failure` that it tells of. */
    private static function demand(array $status, bool $allowPartial): array
    {
        if ($status['state'] === 'done' || ($status['state'] === 'partial' && $allowPartial)) {
            return $status;
        }
        $error = $status['error'] ?? null;
        if ($error === null && $status['state'] === 'partial') {
            $advice = 'The status names them, and so does the disc. Check them at the PACS.';
            $error = ['code' => 'incomplete', 'message' => 'Instances are missing.', 'advice' => $advice, 'transient' => false];
        }
        if ($error === null) {
            $error = ['code' => $status['state'], 'message' => "The request is {$status['state']}.", 'advice' => '', 'transient' => false];
        }
        throw new Failure($error['code'], $error['message'], $error['advice'], $error['transient'], $status);
    }

    private static function timeOut(?array $status, float $timeoutS): Failure
    {
        $after = sprintf('after %g s', $timeoutS);
        if ($status === null) {
            $advice = 'See that the daemon runs, and that it watches this spool.';
            return new Failure('wait_timeout', "The request has not been accepted $after.", $advice, true);
        }
        $message = "The request is not finished $after; it is {$status['state']}.";
        $advice = 'Wait for it again, or cancel it.';
        if ($status['error'] !== null) {
            $message .= " {$status['error']['message']} [{$status['error']['code']}]";
            $advice .= ' ' . $status['error']['advice'];
        }
        return new Failure('wait_timeout', $message, $advice, true, $status);
    }

    private static function checkTicket(string $ticket): string
    {
        if (preg_match(self::TICKET, $ticket) !== 1) {
            $advice = 'A ticket has letters, digits, dots, - and _, at most 64, and begins with a letter or a digit.';
            throw new Failure('request_malformed', 'This is no ticket.', $advice);
        }
        return $ticket;
    }

    // --- PHP -------------------------------------------------------------------------------------------------------------------------

    /** Seconds of a clock that nobody sets. PHP 7.2 has none, and there the time of day has to do. */
    private static function clockS(): float
    {
        return function_exists('hrtime') ? hrtime(true) / 1e9 : microtime(true);
    }

    /** What a call returns that warns on failure. `$why` gets the warning, and the application's own error handler doesn't. */
    private static function quietly(callable $call, ?string &$why = null)
    {
        $why = 'no reason given';
        set_error_handler(function (int $number, string $message) use (&$why): bool {
            $why = preg_replace('/\A\w+\(.*\): (?=[A-Z])/s', '', $message);  // "rename(a,b): ..."
            return true;
        });
        try {
            return $call();
        } finally {
            restore_error_handler();
        }
    }
}
