<?php
/**
 * Several accession numbers of one patient, one file-set: takes the place of the mkiso_multiple.php that called dcmqr for each.
 *
 *     $as = ['MR.180505.026', 'CT.180506.011'];
 *     $dicomdir = '/srv/discs/4711';
 *     if ((include 'mkiso_multiple.php') !== 0) { show($mkiso_complaint); }
 *
 * or `php mkiso_multiple.php ACCESSION... DICOMDIR`.
 */

require_once __DIR__ . '/make_disc.php';

if (($mkiso_arguments = mkisod_arguments(__FILE__, 2, 'mkiso_multiple.php ACCESSION... DICOMDIR')) !== null) {
    $as = array_slice($mkiso_arguments, 0, -1);
    $dicomdir = end($mkiso_arguments);
}
$mkiso_complaint = mkisod_make_disc($as ?? [], $dicomdir ?? '');

return mkisod_end($mkiso_complaint, $mkiso_arguments);
