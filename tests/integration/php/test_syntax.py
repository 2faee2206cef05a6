"""What a web application includes runs on PHP 7.2: nothing newer stands in it. Held by the tokens, since only a newer PHP is at hand."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.daemon import ROOT
from tests.peers import require

CHECK = Path(__file__).parent / "newer_syntax.php"
FILES = sorted((ROOT / "clients/php").rglob("*.php"))

NEWER = [
    "$f = fn($x) => $x;",
    "class A { private int $x = 1; }",
    "class A { public static ?string $x; }",
    "class A { private array $x; }",
    "class A { public int|string $x; }",
    "class A { public function __construct(private int $x) {} }",
    "function f(int|string $x) {}",
    "function f(mixed $x) {}",
    "function f(): mixed {}",
    "function f(): static {}",
    "function f(): int|string {}",
    "function f($x,) {}",
    "f($x,);",
    "$a->f($x,);",
    "new A($x,);",
    "f(x: 1);",
    "$x ??= 1;",
    "$x?->y;",
    "$x = match (1) { 1 => 2 };",
    "enum E { case A; }",
    "class A { public readonly int $x; }",
    "#[A]\nfunction f() {}",
    "$x = [...$y];",
    "$f = strlen(...);",
    "$x = $y ?? throw new E();",
    "try { f(); } catch (E) { g(); }",
    "$x = 1_000;",
    "$x = $y::class;",
    "[&$a] = $b;",
    "$x = <<<T\n  a\n  T;",
    "str_contains($x, 'a');",
    "\\array_key_first($x);",
    "hrtime(true);",
    "json_decode($x, true, 512, JSON_THROW_ON_ERROR);",
]

OLD = [
    "$f = function (int $x) use (&$y): ?string { return $x ?? null; };",
    "class A { private const X = [1, 2,]; private $x; public static $y = 1; /** @var int */ protected $z; static function f(): self {} }",
    "function f(?int $x = null, string ...$y): ?array { return $x ? [1] : [2]; }",
    "[$a, , $b] = $c; ['x' => $d] = $e; list(, $a) = $b; foreach ($x as [$y, $z]) { f(...$y); }",
    "if ($x) throw new E(); else throw new F(); switch ($x) { case A: throw new G(); default: h(); }",
    "try { f(); } catch (A | B $e) { throw $e; } finally { g(); }",
    "$x = <<<T\na\nT;\n$y = $z ? a : b; f($x ? A : B); $x = $a & $b | $c; f([&$x]); $y = [&$x];",
    "function_exists('hrtime') ? hrtime(true) : 1; $x->match = 1; A::class; static::f(); $o->str_contains($x);",
    "$x = array(1, 2,); f(array(1,), [2,]);",
]


def find_newer(source: str | bytes) -> str:
    text = source if isinstance(source, bytes) else f"<?php\n{source}".encode()
    return subprocess.run([require("php"), str(CHECK)], input=text, check=True, capture_output=True, timeout=60).stdout.decode()


@pytest.mark.parametrize("source", NEWER)
def test_newer_syntax_is_found(source: str) -> None:
    assert find_newer(source)


@pytest.mark.parametrize("source", OLD)
def test_old_syntax_is_not(source: str) -> None:
    assert find_newer(source) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_client_and_its_examples_run_on_php_7_2(path: Path) -> None:
    assert find_newer(path.read_bytes()) == ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_sound(path: Path) -> None:
    done = subprocess.run([require("php"), "-d", "error_reporting=-1", "-l", str(path)], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_there_is_something_to_look_at() -> None:
    assert len(FILES) >= 4
