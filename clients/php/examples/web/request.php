<?php
/** One request: how far it is, what went wrong, the disc to download, and what can be said about it: cancel, or make it all the same. */

declare(strict_types=1);

require __DIR__ . '/page.php';

send_headers();
open_session(true);
[$ticket, $status] = find_request();
if ($_SERVER['REQUEST_METHOD'] === 'POST') {
    say_word($ticket);
}
session_write_close();
$state = state_of($status);
$finished = $status !== null && $status['finished'];
show_head((STATES[$state] ?? $state) . ': ' . name_request($status), !$finished);
echo '<article class="card" id="request" data-state="', e($state), '"', $finished ? '' : ' data-follow="' . e($ticket) . '"', '>',
    '<h1 tabindex="-1">', e(name_request($status)), '</h1><p class="state" id="state">', e(describe_state($status)), '</p>';
$percent = percent_done($status);
if (!$finished && $percent !== null) {
    echo '<progress max="100" value="', $percent, '" aria-labelledby="state"></progress>';
}
if ($status !== null) {
    show_error($status);
    show_downloads($ticket, $status);
    show_accessions($status);
}
show_words($ticket, $status);
echo '<p><a href="index.php">Make another disc</a></p></article>';
show_foot();

function say_word(string $ticket): void
{
    if (!token_is_right()) {
        show_message(403, 'This page was open for too long', 'Please go back, load it again, and then press the button.');
    }
    try {
        switch (parameter($_POST, 'word')) {
            case 'cancel':
                mkisod()->cancel($ticket);
                break;
            case 'publish':
                mkisod()->publish($ticket);
        }
    } catch (Mkisod\Failure $failure) {
        show_failure($failure);
    }
    redirect(request_link($ticket));
}

function show_error(array $status): void
{
    $error = $status['error'];
    if ($error === null || $status['state'] === 'cancelled') {
        return;
    }
    echo '<div class="', $status['state'] === 'failed' ? 'complaint' : 'notice', '">';
    $concerned = [];  // code => accession numbers
    foreach ($status['accessions'] as $accession) {
        if ($accession['error'] !== null) {
            $concerned[$accession['error']['code']][] = $accession['accession'];
        }
    }
    foreach ($concerned === [] ? [$error['code'] => []] : $concerned as $code => $accessions) {
        echo '<p>', e(explain_code($code)), '</p>';
        echo $accessions === [] ? '' : '<ul><li>' . implode('</li><li>', array_map('e', $accessions)) . '</li></ul>';
    }
    echo '<details><summary>For the IT department</summary><p>', e("{$error['message']} {$error['advice']}"), '</p><p>',
        e("{$error['code']} · {$status['ticket']} · {$status['job']}"), '</p></details></div>';
}

function show_downloads(string $ticket, array $status): void
{
    if ($status['result'] === null) {
        if ($status['state'] === 'done' || $status['state'] === 'partial') {
            echo '<div class="notice"><p>The disc has been removed from the server. Please make it again if you need it.</p></div>';
        }
        return;
    }
    $volumes = $status['result']['volumes'];
    echo '<ul class="downloads">';
    foreach ($volumes as $number => $volume) {
        $name = count($volumes) === 1 ? $volume['file_set_id'] : 'Disc ' . ($number + 1) . ' of ' . count($volumes);
        echo '<li><strong>', e($name), '</strong>';
        foreach (['image' => 'ISO, to burn', 'archive' => 'ZIP'] as $kind => $what) {
            if ($volume[$kind] !== null) {
                $link = 'download.php?' . http_build_query(['ticket' => $ticket, 'volume' => $number + 1, 'kind' => $kind]);
                $class = $kind === 'image' ? 'button' : 'button second';
                $size = $kind === 'image' && $volume['size_bytes'] !== null ? ' (' . describe_size($volume['size_bytes']) . ')' : '';
                echo ' <a class="', $class, '" href="', e($link), '" download>', e($what . $size), '</a>';
            }
        }
        echo '</li>';
    }
    echo '</ul>';
}

/** What came of each. While it moves, the line above says more. */
function show_accessions(array $status): void
{
    if (!$status['finished'] && $status['state'] !== 'deferred') {
        return;
    }
    echo '<table><caption class="unseen">Accession numbers</caption><thead><tr><th scope="col">Accession number</th>',
        '<th scope="col">Kind</th><th scope="col" class="number">Images</th></tr></thead><tbody>';
    foreach ($status['accessions'] as $accession) {
        $kinds = $accession['studies'] === [] ? [] : array_unique(array_merge(...array_column($accession['studies'], 'modalities')));
        $received = array_sum(array_column($accession['studies'], 'instances_received'));
        $expected = array_sum(array_column($accession['studies'], 'instances_expected'));
        echo '<tr><th scope="row">', e($accession['accession']), '</th><td>', e(implode(', ', $kinds) ?: '–'), '</td><td class="number">',
            e($expected > 0 ? "$received of $expected" : '–'), '</td></tr>';
    }
    echo '</tbody></table>';
}

function show_words(string $ticket, ?array $status): void
{
    $words = [];
    if ($status === null || !$status['finished']) {
        $words['cancel'] = 'Cancel';
    }
    $incomplete = $status !== null && $status['error'] !== null && $status['error']['code'] === 'incomplete';
    if ($incomplete && in_array($status['state'], ['deferred', 'failed'], true)) {
        $words['publish'] = 'Make the disc without the missing images';
    }
    foreach ($words as $word => $what) {
        echo '<form method="post" action="', e(request_link($ticket)), '">', token_field(),
            '<button class="second" name="word" value="', $word, '">', e($what), '</button></form>';
    }
}
