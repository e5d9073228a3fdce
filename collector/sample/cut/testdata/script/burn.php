<?php
// Burns CPU time for some seconds in work, turn, a call by array_map, and burn.
function burn(): int
{
    $x = 1;
    for ($i = 0; $i < 2000; $i++) {
        $x = ($x * 31 + $i) & 0xFFFFFFFF;
    }
    return $x;
}

function turn(array $items): void
{
    array_map(fn ($i) => burn(), $items);
}

function work(float $end): void
{
    $items = range(1, 10);
    while (microtime(true) < $end) {
        turn($items);
    }
}

work(microtime(true) + (float) $argv[1]);
