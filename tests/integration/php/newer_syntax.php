<?php
// Names what PHP 7.2 does not know in the PHP text on standard input: syntax by its tokens, and functions and constants by their names.
// One line a finding. A function asked for by function_exists() before its use is no finding: the name then stands in the text as a string.
declare(strict_types=1);

const KEYWORDS = [  // tokens of this PHP that the tokenizer of 7.2 does not have, or has for plain names
    'T_FN' => 'arrow function (7.4)', 'T_COALESCE_EQUAL' => '??= (7.4)', 'T_MATCH' => 'match (8.0)', 'T_ATTRIBUTE' => 'attribute (8.0)',
    'T_NULLSAFE_OBJECT_OPERATOR' => '?-> (8.0)', 'T_ENUM' => 'enum (8.1)', 'T_READONLY' => 'readonly (8.1)',
];
const TYPES = ['mixed', 'never', 'static', 'false', 'null', 'true'];
const MODIFIERS = [T_PUBLIC, T_PROTECTED, T_PRIVATE, T_STATIC, T_VAR];
const LATER = [
    'functions' => ['array_key_first', 'array_key_last', 'is_countable', 'mb_str_split', 'str_contains', 'str_starts_with', 'str_ends_with',
        'get_debug_type', 'get_resource_id', 'array_is_list', 'fdiv', 'preg_last_error_msg', 'password_algos', 'fdatasync', 'array_find', 'array_any',
        'array_all', 'json_validate', 'str_increment', 'mb_trim', 'mb_ucfirst', 'ini_parse_quantity', 'memory_reset_peak_usage', 'net_get_interfaces'],
    'guarded' => ['hrtime', 'fsync'],
    'constants' => ['JSON_THROW_ON_ERROR', 'JSON_INVALID_UTF8_THROW', 'PASSWORD_ARGON2ID', 'FILTER_VALIDATE_BOOL', 'PHP_FLOAT_DIG_'],
];

$source = stream_get_contents(STDIN);
$tokens = [];
$line = 1;
foreach (token_get_all($source) as $token) {
    [$id, $text, $line] = is_array($token) ? $token : [null, $token, $line];
    if (!in_array($id, [T_WHITESPACE, T_COMMENT, T_DOC_COMMENT], true)) {
        $tokens[] = [$id, $text, $line];
    }
    if ($id === T_END_HEREDOC && trim($text) !== $text) {
        report($line, 'indented end of a heredoc (7.3)');
    }
    $line += substr_count($text, "\n");
}

function report(int $line, string $what): void
{
    echo "line $line: $what\n";
}

$brackets = [];  // of each open bracket: what stands before it
$in_signature = -1;  // the depth of the parameters of the function that is being declared
foreach ($tokens as $i => [$id, $text, $line]) {
    [$before_id, $before] = $tokens[$i - 1] ?? [null, ''];
    [$after_id, $after] = $tokens[$i + 1] ?? [null, ''];
    $name = $id === null ? '' : token_name($id);
    if (isset(KEYWORDS[$name])) {
        report($line, KEYWORDS[$name]);
    }
    if (in_array($text, ['(', '['], true)) {
        $brackets[] = [$before_id, $before, $text];
        $declares = $before_id === T_FUNCTION || (in_array($before_id, [T_STRING, null], true) && in_array($tokens[$i - 2][0] ?? null, [T_FUNCTION], true)) ||
            ($before === '&' && ($tokens[$i - 2][0] ?? null) === T_FUNCTION) || $before_id === T_USE;
        if ($text === '(' && $declares) {
            $in_signature = count($brackets);
        }
    }
    if (in_array($text, [')', ']'], true)) {
        [$of_id, $of] = $brackets === [] ? [null, ''] : end($brackets);
        $is_list = $text === ']' || in_array($of_id, [T_ARRAY, T_LIST], true);
        if ($before === ',' && !$is_list) {
            report($line, 'comma after the last argument (7.3)');
        }
        if (count($brackets) === $in_signature) {
            $in_signature = -1;
            $type = $after === ':' ? array_slice($tokens, $i + 2, 2) : [];
            foreach ($type as [, $word]) {
                if (in_array(strtolower($word), TYPES, true)) {
                    report($line, "return type $word (8.0)");
                }
            }
            if (($tokens[$i + 3][1] ?? '') === '|' && $after === ':') {
                report($line, 'union type (8.0)');
            }
        }
        array_pop($brackets);
    }
    $depth = count($brackets);
    $of = $brackets === [] ? [null, '', ''] : end($brackets);
    if ($in_signature === $depth && $depth > 0) {
        if (in_array($id, [T_PUBLIC, T_PROTECTED, T_PRIVATE], true)) {
            report($line, 'promoted constructor parameter (8.0)');
        } elseif ($text === '|') {
            report($line, 'union type (8.0)');
        } elseif ($id === T_STRING && strtolower($text) === 'mixed' && $after_id === T_VARIABLE) {
            report($line, 'type mixed (8.0)');
        }
    }
    if ($depth === 0 && in_array($id, MODIFIERS, true) && ($after === '?' || in_array($after_id, [T_STRING, T_ARRAY, T_NAME_QUALIFIED, T_NAME_FULLY_QUALIFIED], true))) {
        $next = $after === '?' ? $i + 3 : $i + 2;
        if (($tokens[$next][0] ?? null) === T_VARIABLE || ($tokens[$next][1] ?? '') === '|') {
            report($line, 'typed property (7.4)');
        }
    }
    if ($id === T_STRING && $after === ':' && in_array($before, ['(', ','], true) && ($of[2] ?? '') === '(') {
        report($line, 'named argument (8.0)');
    }
    if ($id === T_ELLIPSIS && ($of[2] === '[' || $of[0] === T_ARRAY)) {
        report($line, 'spread in an array (7.4)');
    }
    if ($id === T_ELLIPSIS && $after === ')') {
        report($line, 'first class callable (8.1)');
    }
    if ($id === T_THROW && !in_array($before, [';', '{', '}', ')', ':'], true) && $before_id !== T_ELSE && $before_id !== T_OPEN_TAG) {
        report($line, 'throw as an expression (8.0)');
    }
    if ($id === T_CATCH && ($tokens[$i + 3][1] ?? '') === ')') {
        report($line, 'catch without a variable (8.0)');
    }
    if (in_array($id, [T_LNUMBER, T_DNUMBER], true) && (strpos($text, '_') !== false || stripos($text, '0o') === 0)) {
        report($line, 'digits in groups, or 0o (7.4, 8.1)');
    }
    if ($id === T_CLASS && $before_id === T_DOUBLE_COLON && ($tokens[$i - 2][0] ?? null) === T_VARIABLE) {
        report($line, '::class of an object (8.0)');
    }
    if ($text === '&' && in_array($before, ['[', ','], true) && $of[2] === '[' && $after_id === T_VARIABLE) {
        $end = $i;
        while (isset($tokens[$end]) && $tokens[$end][1] !== ']') {
            $end++;
        }
        if (($tokens[$end + 1][1] ?? '') === '=') {
            report($line, 'reference in a list (7.3)');
        }
    }
    if ($id === T_CONST && in_array($after_id, [T_STRING], true) && ($tokens[$i + 2][0] ?? null) === T_STRING) {
        report($line, 'typed constant (8.3)');
    }
    $is_call = $after === '(' && !in_array($before_id, [T_OBJECT_OPERATOR, T_DOUBLE_COLON, T_FUNCTION, T_NEW], true);
    $word = ltrim($text, '\\');
    if (in_array($id, [T_STRING, T_NAME_FULLY_QUALIFIED], true)) {
        if ($is_call && in_array($word, LATER['functions'], true)) {
            report($line, "function $word()");
        }
        if ($is_call && in_array($word, LATER['guarded'], true) && strpos($source, "function_exists('$word')") === false) {
            report($line, "function $word() without function_exists()");
        }
        if (in_array($word, LATER['constants'], true)) {
            report($line, "constant $word");
        }
    }
}
