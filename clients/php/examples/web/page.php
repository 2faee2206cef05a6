<?php
/**
 * What every page here has in common: the headers, the session with its token, and the frame around the content.
 *
 * Every output goes through e(). The session holds a token against forged forms and the tickets that were made in it; a ticket itself is a
 * secret, and whoever has the link to a request may see it.
 */

declare(strict_types=1);

require_once __DIR__ . '/../../Mkisod.php';
require_once __DIR__ . '/words.php';

const REMEMBERED = 50;  // tickets of one session

function e(string $text): string
{
    return htmlspecialchars($text, ENT_QUOTES | ENT_SUBSTITUTE, 'UTF-8');
}

function mkisod(): Mkisod\Client
{
    return new Mkisod\Client(getenv('MKISOD_SPOOL') ?: '/var/spool/mkisod');
}

/** Nothing from elsewhere, nothing inline, in no frame, in no cache, and no word of it to others. */
function send_headers(string $type = 'text/html; charset=utf-8'): void
{
    header("Content-Type: $type");
    header("Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; " .
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'");
    header('X-Content-Type-Options: nosniff');
    header('X-Frame-Options: DENY');
    header('Referrer-Policy: no-referrer');
    header('Cross-Origin-Opener-Policy: same-origin');
    header('Cross-Origin-Resource-Policy: same-origin');
    header('Permissions-Policy: camera=(), geolocation=(), microphone=()');
    header('Cache-Control: no-store');
    header_remove('X-Powered-By');
}

/** To read it is enough for all that only shows something: then nobody waits for the session's lock. */
function open_session(bool $to_write): void
{
    ini_set('session.use_strict_mode', '1');
    ini_set('session.use_only_cookies', '1');
    ini_set('session.cookie_httponly', '1');
    ini_set('session.cookie_secure', empty($_SERVER['HTTPS']) ? '0' : '1');
    @ini_set('session.cookie_samesite', 'Lax');  // PHP 7.2 does not know it
    session_cache_limiter('');
    session_name('mkisod');
    session_start(['read_and_close' => !$to_write]);
    if ($to_write && !isset($_SESSION['token'])) {
        $_SESSION += ['token' => bin2hex(random_bytes(32)), 'tickets' => [], 'forms' => []];
    }
}

/** A parameter that is one text, or ''. */
function parameter(array $from, string $name): string
{
    return isset($from[$name]) && is_string($from[$name]) ? $from[$name] : '';
}

function token_is_right(): bool
{
    return isset($_SESSION['token']) && hash_equals($_SESSION['token'], parameter($_POST, 'token'));
}

/** The hidden field that every form carries. */
function token_field(): string
{
    return '<input type="hidden" name="token" value="' . e($_SESSION['token']) . '">';
}

function request_link(string $ticket): string
{
    return 'request.php?ticket=' . rawurlencode($ticket);
}

function redirect(string $to): void
{
    header("Location: $to", true, 303);
    exit;
}

/** The ticket that the link names, and its status; ends with a page that says so where there is none. */
function find_request(): array
{
    $ticket = parameter($_GET, 'ticket');
    try {
        $status = mkisod()->status($ticket);
    } catch (Mkisod\Failure $failure) {
        show_failure($failure);
    }
    if ($status === null && !in_array($ticket, $_SESSION['tickets'] ?? [], true)) {
        show_message(404, 'There is no such request', 'The link may be incomplete, or the request is so old that it has been removed.');
    }
    return [$ticket, $status];
}

/** The daemon's own words go into the log; here stands what the person at the desk can do. */
function show_failure(Mkisod\Failure $failure): void
{
    if ($failure->getErrorCode() === 'request_malformed') {
        show_message(404, 'There is no such request', 'The link may be incomplete.');
    }
    error_log("mkisod: {$failure->getMessage()} {$failure->getAdvice()} [{$failure->getErrorCode()}]");
    show_message(503, 'This does not work at the moment', explain_code($failure->getErrorCode()));
}

function show_message(int $http_status, string $title, string $text): void
{
    http_response_code($http_status);
    show_head($title, false);
    echo '<div class="card" role="alert"><h1>', e($title), '</h1><p>', e($text), '</p>';
    echo '<p><a class="button" href="index.php">Make a disc</a></p></div>';
    show_foot();
    exit;
}

/** `$moves`: there is something to watch. Without JavaScript the page then loads itself again. */
function show_head(string $title, bool $moves): void
{
    echo '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>', e($title), '</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">',
        '<link rel="icon" href="disc.svg"><link rel="stylesheet" href="style.css"><script src="follow.js" defer></script>',
        $moves ? '<noscript><meta http-equiv="refresh" content="3"></noscript>' : '',
        '</head><body><a class="skip" href="#main">To the content</a>',
        '<header><div><img src="disc.svg" alt="" width="28" height="28"><a href="index.php">Patient discs</a></div></header>',
        '<main id="main" tabindex="-1"><p id="live" class="unseen" role="status"></p>';
}

function show_foot(): void
{
    echo '</main></body></html>';
}
