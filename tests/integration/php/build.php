<?php
// Reads lines {"accessions": [base64, ...], "METHOD": base64, ...} and answers each with {"text": ...} or {"code": ..., "message": ...}.
declare(strict_types=1);
error_reporting(E_ALL);
set_error_handler(function (int $number, string $message): bool {
    throw new ErrorException($message, 0, $number);
});
require __DIR__ . '/../../../clients/php/Mkisod.php';

while (($line = fgets(STDIN)) !== false) {
    $wanted = json_decode($line, true);
    try {
        $request = new Mkisod\Request(array_map('base64_decode', $wanted['accessions']));
        foreach (array_diff_key($wanted, ['accessions' => 0]) as $method => $value) {
            $request->$method(base64_decode($value));
        }
        $answer = ['text' => $request->text()];
    } catch (Mkisod\Failure $failure) {
        $answer = ['code' => $failure->getErrorCode(), 'message' => $failure->getMessage()];
    }
    echo json_encode($answer, JSON_UNESCAPED_SLASHES), "\n";
}
