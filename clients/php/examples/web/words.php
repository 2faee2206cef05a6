<?php
/** What a status means, in the words of the person at the desk. */

declare(strict_types=1);

const STATES = [
    'waiting' => 'Waiting to be taken up',
    'queued' => 'Waiting for its turn',
    'retrieving' => 'Fetching the images',
    'assembling' => 'Writing the disc',
    'publishing' => 'Almost done',
    'forwarding' => 'The disc is ready; the images are being sent on',
    'deferred' => 'Interrupted; it goes on by itself',
    'done' => 'The disc is ready',
    'partial' => 'The disc is ready, but read this first',
    'failed' => 'The disc could not be made',
    'cancelled' => 'Cancelled',
];

const CALL_IT = 'Please tell the IT department';

const EXPLANATIONS = [
    'accession_not_found' => 'The image archive has no examination with this number. Please check it for typing errors.',
    'accession_mismatch' => 'The image archive has similar numbers, but not this one. Please enter it in full.',
    'accession_invalid' => 'One of the numbers cannot be an accession number. Please check it.',
    'patient_mismatch' => 'The examinations are not of the patient that was expected, or not all of one patient. ' .
        'No disc was made. Please check every number against the patient.',
    'incomplete' => 'Some images have not come from the archive.',
    'study_unavailable' => 'The examination is in the long-term archive and has to be brought back first. ' .
        'Please ask the archive\'s administrator.',
    'pacs_unreachable' => 'The image archive does not answer.',
    'timeout' => 'The image archive has stopped answering.',
    'association_rejected' => 'The image archive refuses the connection. ' . CALL_IT . '.',
    'move_destination_unknown' => 'The image archive does not know where to send the images. ' . CALL_IT . '.',
    'disk_full' => 'There is no room left on the server. ' . CALL_IT . '.',
    'object_too_large' => 'One image series is larger than the disc. ' . CALL_IT . '.',
    'nonconformant' => 'One of the images is damaged or of a kind that cannot be put on a disc. ' . CALL_IT . '.',
    'nothing_selected' => 'The examination has no images of this kind.',
    'destination_unknown' => 'The images cannot be sent to this destination. ' . CALL_IT . '.',
    'tls_failed' => 'The connection to the image archive is not secure. ' . CALL_IT . '.',
    'forward_failed' => 'The disc is whole, but not all images could be sent on to their destination.',
    'cancelled' => 'The request was withdrawn.',
    'spool_unusable' => 'The disc service cannot be reached. ' . CALL_IT . '.',
    'result_unusable' => 'The finished disc is no longer there. Please make it again.',
];

function explain_code(string $code): string
{
    return EXPLANATIONS[$code] ?? 'Something went wrong. ' . CALL_IT . ": $code.";
}

function state_of(?array $status): string
{
    return $status === null ? 'waiting' : $status['state'];
}

/** How it stands, in one line. */
function describe_state(?array $status): string
{
    $state = state_of($status);
    $text = STATES[$state] ?? $state;
    if ($state === 'retrieving' && $status['progress']['instances_expected'] > 0) {
        $text .= ": {$status['progress']['instances_received']} of {$status['progress']['instances_expected']}";
        $text .= $status['progress']['eta_s'] === null ? '' : describe_time_left($status['progress']['eta_s']);
    }
    if ($state === 'deferred' && $status['retry_at'] !== null) {
        $at = date('H:i', (int) strtotime($status['retry_at']));
        $not_found = $status['error'] !== null && $status['error']['code'] === 'accession_not_found';
        $text = $not_found ? "Not found; it will be looked for again at $at" : "$text at $at";
    }
    return $text;
}

function describe_time_left(int $seconds): string
{
    if ($seconds < 10) {
        return ', a few seconds left';
    }
    return $seconds < 90 ? ", about $seconds seconds left" : ', about ' . (int) round($seconds / 60) . ' minutes left';
}

/** How far it is, from 0 to 100: to fetch the images takes four fifths of it. null where a bar would say nothing. */
function percent_done(?array $status): ?int
{
    $progress = $status === null ? null : $status['progress'];
    switch (state_of($status)) {
        case 'waiting':
        case 'queued':
            return 0;
        case 'retrieving':
            return (int) min(80, 80 * $progress['instances_received'] / max(1, $progress['instances_expected']));
        case 'assembling':
            return 80 + (int) (18 * ($progress['percent_assembled'] ?? 0) / 100);
        case 'publishing':
        case 'forwarding':
            return 99;
        case 'done':
        case 'partial':
            return 100;
        default:
            return null;
    }
}

function describe_size(int $bytes): string
{
    return $bytes < 10 * 1048576 ? sprintf('%.1f MB', $bytes / 1048576) : sprintf('%d MB', $bytes / 1048576);
}

/** The accession numbers of a request, as a heading. */
function name_request(?array $status): string
{
    $names = array_column($status['accessions'] ?? [], 'accession');
    if ($names === []) {
        return 'Disc';
    }
    $more = count($names) - 3;
    return 'Disc for ' . implode(', ', array_slice($names, 0, 3)) . ($more > 0 ? " and $more more" : '');
}
