<?php
/**
 * One accession number, one file-set: takes the place of the mkiso.php that called dcmqr.
 *
 *     $accession_number = 'MR.180505.026';
 *     $dicomdir = '/srv/discs/4711';
 *     if ((include 'mkiso.php') !== 0) { show($mkiso_complaint); }
 *
 * or `php mkiso.php ACCESSION DICOMDIR`. At the end DICOMDIR, README.TXT, INDEX.HTM and the folder DICOM stand in $dicomdir.
 */

require_once __DIR__ . '/make_disc.php';

if (($mkiso_arguments = mkisod_arguments(__FILE__, 2, 'mkiso.php ACCESSION DICOMDIR')) !== null) {
    [$accession_number, $dicomdir] = $mkiso_arguments;
}
$mkiso_complaint = mkisod_make_disc([$accession_number ?? ''], $dicomdir ?? '');

return mkisod_end($mkiso_complaint, $mkiso_arguments);
