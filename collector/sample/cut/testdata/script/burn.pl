# Burns CPU time for some seconds in work, turn and burn.
use strict;
use warnings;
use Time::HiRes 'time';

sub burn {
    my $x = 1;
    for my $i (0 .. 2000) {
        $x = ($x * 31 + $i) & 0xFFFFFFFF;
    }
    return $x;
}

sub turn {
    burn() for 1 .. 10;
}

sub work {
    my ($end) = @_;
    turn() while time() < $end;
}

work(time() + $ARGV[0]);
