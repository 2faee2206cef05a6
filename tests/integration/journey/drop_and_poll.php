<?php
// What a web application does with mkisod, and no more: drop a request, poll its status, find the files.
// Usage: php drop_and_poll.php SPOOL TICKET ACCESSION...    Prints {"state": ..., "states": [...], "files": {name: bytes}} as JSON.
declare(strict_types=1);
error_reporting(E_ALL);
set_error_handler(function (int $number, string $message): bool {
    throw new ErrorException($message, 0, $number);
});

[, $spool, $ticket] = $argv;
$accessions = array_slice($argv, 3);

$temporary = "$spool/inbox/.$ticket.tmp";
file_put_contents($temporary, implode("\n", $accessions) . "\n@end\n");
rename($temporary, "$spool/inbox/$ticket.req");

$states = [];
$end = microtime(true) + 60;
do {
    if (microtime(true) > $end) {
        fwrite(STDERR, "no end within 60 s\n");
        exit(1);
    }
    usleep(20000);
    $file = "$spool/outbox/$ticket/status.json";
    clearstatcache();
    if (!is_file($file)) {
        continue;  // not accepted yet
    }
    $status = json_decode(file_get_contents($file), true, 512, JSON_THROW_ON_ERROR);
    if ($states === [] || end($states) !== $status['state']) {
        $states[] = $status['state'];
    }
} while ($states === [] || !$status['finished']);

$files = [];
if ($status['result'] !== null) {
    $result = "$spool/outbox/$ticket/{$status['result']['path']}";
    foreach ($status['result']['volumes'] as $volume) {
        foreach (['DICOMDIR', 'README.TXT', 'INDEX.HTM'] as $name) {
            $files["{$volume['directory']}/$name"] = filesize("$result/{$volume['directory']}/$name");
        }
        $files[$volume['image']] = filesize("$result/{$volume['image']}");
        if (hash_file('sha256', "$result/{$volume['image']}") !== $volume['sha256']) {
            fwrite(STDERR, "the image is not the one that the status speaks of\n");
            exit(1);
        }
    }
}
echo json_encode(['state' => $status['state'], 'states' => $states, 'error' => $status['error']['code'] ?? null, 'files' => $files]), "\n";
