<?php
/** How a request stands, for follow.js: {"state", "text", "percent", "finished"}. */

declare(strict_types=1);

require __DIR__ . '/page.php';

send_headers();
open_session(false);
[, $status] = find_request();
header('Content-Type: application/json');
echo json_encode([
    'state' => state_of($status),
    'text' => describe_state($status),
    'percent' => percent_done($status),
    'finished' => $status !== null && $status['finished'],
]);
