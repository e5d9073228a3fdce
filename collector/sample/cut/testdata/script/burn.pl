# Burns CPU time for some seconds in work, turn and burn, which are functions, or with
# the second argument "methods" those of a class.
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

package Shop;

sub burn {
    my $x = 1;
    for my $i (0 .. 2000) {
        $x = ($x * 31 + $i) & 0xFFFFFFFF;
    }
    return $x;
}

sub turn {
    my ($self) = @_;
    $self->burn() for 1 .. 10;
}

sub work {
    my ($self, $end) = @_;
    $self->turn() while Time::HiRes::time() < $end;
}

package main;

my $end = time() + $ARGV[0];
if (@ARGV > 1) {
    bless({}, 'Shop')->work($end);
} else {
    work($end);
}
