<?php
/** The image or the archive of one volume. The link says which number and which kind; the status says where that is. */

declare(strict_types=1);

require __DIR__ . '/page.php';

const TYPES = ['image' => 'application/x-iso9660-image', 'archive' => 'application/zip'];

send_headers();
open_session(false);
[$ticket] = find_request();
$kind = parameter($_GET, 'kind');
try {
    $volumes = mkisod()->volumes($ticket);
} catch (Mkisod\Failure $failure) {
    show_message(404, 'There is no disc to download', explain_code('result_unusable'));
}
$number = filter_var(parameter($_GET, 'volume'), FILTER_VALIDATE_INT);
$path = isset(TYPES[$kind]) && is_int($number) ? $volumes[$number - 1][$kind] ?? null : null;
$file = $path === null ? false : fopen($path, 'rb');
if ($file === false) {
    show_message(404, 'There is no disc to download', explain_code('result_unusable'));
}
send_headers(TYPES[$kind]);
header('Content-Disposition: attachment; filename="' . preg_replace('/[^A-Za-z0-9._-]/', '_', basename($path)) . '"');
header('Content-Length: ' . fstat($file)['size']);
set_time_limit(0);
while (ob_get_level() > 0) {
    ob_end_clean();
}
fpassthru($file);
