<?php
/** The form for accession numbers, and below it what was asked for in this session. */

declare(strict_types=1);

require __DIR__ . '/page.php';

send_headers();
open_session(true);
$form = [];
foreach (['accessions', 'patient', 'birthdate'] as $field) {
    $form[$field] = parameter($_POST, $field);
}
$complaints = $_SERVER['REQUEST_METHOD'] === 'POST' ? submit_form($form) : [];
session_write_close();
show_form($form, $complaints);

/** Submit what the form says and go to the request's page; else return what is wrong with it: field => sentences. */
function submit_form(array $form): array
{
    if (!token_is_right()) {
        http_response_code(403);
        return ['accessions' => ['This page was open for too long. Please press "Make disc" again.']];
    }
    // Who presses the button twice gets one disc.
    $once = parameter($_POST, 'once');
    if (isset($_SESSION['forms'][$once])) {
        redirect(request_link($_SESSION['forms'][$once]));
    }
    $lines = array_filter(preg_split('/\r\n|\r|\n/', $form['accessions']), function (string $line): bool {
        return trim($line) !== '';
    });
    $complaints = find_complaints($lines, $form);
    if ($complaints !== []) {
        http_response_code(422);
        return $complaints;
    }
    try {
        $request = (new Mkisod\Request($lines))->output('iso', 'zip');
        if (trim($form['patient']) !== '') {
            $request->patient($form['patient']);
        }
        if ($form['birthdate'] !== '') {
            $request->birthdate(str_replace('-', '', $form['birthdate']));
        }
        $ticket = mkisod()->submit($request);
    } catch (Mkisod\Failure $failure) {
        show_failure($failure);
    }
    $_SESSION['tickets'] = array_slice(array_merge([$ticket], $_SESSION['tickets']), 0, REMEMBERED);
    $_SESSION['forms'] = array_slice([$once => $ticket] + $_SESSION['forms'], 0, REMEMBERED, true);
    redirect(request_link($ticket));
    return [];
}

/** The client's own rules, asked line by line, so that every mistake is shown at once. */
function find_complaints(array $lines, array $form): array
{
    $complaints = [];
    if ($lines === []) {
        $complaints['accessions'][] = 'Please enter at least one accession number.';
    }
    foreach (array_slice($lines, 0, 1000, true) as $number => $line) {
        $fault = Mkisod\Request::findAccessionFault($line);
        if ($fault !== null) {
            $complaints['accessions'][] = 'Line ' . ($number + 1) . ": $fault.";
        }
    }
    if (count($lines) > 1000) {
        $complaints['accessions'][] = 'At most 1,000 accession numbers fit into one request.';
    }
    $one = new Mkisod\Request(['1']);
    try {
        trim($form['patient']) === '' || $one->patient($form['patient']);
    } catch (Mkisod\Failure $failure) {
        $complaints['patient'][] = 'A patient ID has at most 64 characters and no backslash.';
    }
    try {
        $form['birthdate'] === '' || $one->birthdate(str_replace('-', '', $form['birthdate']));
    } catch (Mkisod\Failure $failure) {
        $complaints['birthdate'][] = 'Please enter the date of birth as year-month-day, such as 1970-04-01.';
    }
    return $complaints;
}

function show_form(array $form, array $complaints): void
{
    show_head($complaints === [] ? 'Make a disc' : 'Please check: Make a disc', false);
    echo '<div class="card"><h1>Make a disc</h1>';
    if ($complaints !== []) {
        echo '<div class="complaint" role="alert" tabindex="-1" autofocus><h2>Please check what you entered</h2><ul>';
        foreach ($complaints as $field => $sentences) {
            foreach ($sentences as $sentence) {
                echo '<li><a href="#', e($field), '">', e($sentence), '</a></li>';
            }
        }
        echo '</ul></div>';
    }
    echo '<form method="post" action="index.php">', token_field(),
        '<input type="hidden" name="once" value="', bin2hex(random_bytes(16)), '">',
        '<label for="accessions">Accession numbers</label><p class="hint" id="accessions-hint">One number a line. All of one patient.</p>',
        '<textarea id="accessions" name="accessions" rows="4" required spellcheck="false" autocapitalize="off" autocomplete="off"',
        describe_field('accessions', $complaints), '>', "\n", e($form['accessions']), '</textarea>',
        '<fieldset><legend>To be sure of the patient</legend>',
        '<p class="hint" id="patient-hint">If you enter these, a disc is made only if the images are of this patient.</p>',
        '<div class="pair">',
        '<div><label for="patient">Patient ID <span class="optional">(optional)</span></label>',
        '<input id="patient" name="patient" maxlength="64" autocomplete="off" value="', e($form['patient']), '"',
        describe_field('patient', $complaints), '></div>',
        '<div><label for="birthdate">Date of birth <span class="optional">(optional)</span></label>',
        '<input id="birthdate" name="birthdate" type="date" value="', e($form['birthdate']), '"',
        describe_field('birthdate', $complaints), '></div>',
        '</div></fieldset><button>Make disc</button></form></div>';
    show_requests();
    show_foot();
}

function describe_field(string $field, array $complaints): string
{
    $hint = $field === 'accessions' ? 'accessions-hint' : 'patient-hint';
    return " aria-describedby=\"$hint\"" . (isset($complaints[$field]) ? ' aria-invalid="true"' : '');
}

function show_requests(): void
{
    if ($_SESSION['tickets'] === []) {
        return;
    }
    echo '<section aria-labelledby="yours"><h2 id="yours">Your requests</h2><ul class="requests">';
    foreach ($_SESSION['tickets'] as $number => $ticket) {
        try {
            $status = mkisod()->status($ticket);
        } catch (Mkisod\Failure $failure) {
            $status = null;
        }
        $finished = $status !== null && $status['finished'];
        $percent = percent_done($status);
        echo '<li class="card" id="request-', $number, '" data-state="', e(state_of($status)), '"',
            $finished ? '' : ' data-follow="' . e($ticket) . '"', '>',
            '<a href="', e(request_link($ticket)), '">', e(name_request($status)), '</a>',
            '<p class="state" id="state-', $number, '">', e(describe_state($status)), '</p>';
        if (!$finished && $percent !== null) {
            echo '<progress max="100" value="', $percent, '" aria-labelledby="state-', $number, '"></progress>';
        }
        echo '</li>';
    }
    echo '</ul></section>';
}
