<?php
/**
 * One accession number, one file-set, and everything to the workstation: takes the place of the mkiso2.php that called dcmqr and dcmsend.
 *
 * Used like mkiso.php. The destination WORKSTATION stands in the daemon's configuration: [forward.WORKSTATION], host 172.16.0.120, port 104.
 * If only the sending failed, the disc is in $dicomdir all the same, and the complaint says so. If the workstation is down for longer than we
 * wait, the daemon goes on trying to send.
 */

require_once __DIR__ . '/make_disc.php';

if (($mkiso_arguments = mkisod_arguments(__FILE__, 2, 'mkiso2.php ACCESSION DICOMDIR')) !== null) {
    [$accession_number, $dicomdir] = $mkiso_arguments;
}
$mkiso_complaint = mkisod_make_disc([$accession_number ?? ''], $dicomdir ?? '', ['WORKSTATION']);

return mkisod_end($mkiso_complaint, $mkiso_arguments);
