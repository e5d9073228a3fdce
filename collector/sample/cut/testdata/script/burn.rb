# Burns CPU time for some seconds in work, turn, a block of turn, and burn.
def burn
  x = 1
  i = 0
  while i < 2000
    x = (x * 31 + i) & 0xFFFFFFFF
    i += 1
  end
  x
end

def turn
  10.times { burn }
end

def clock
  Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

def work(last)
  turn while clock < last
end

work(clock + ARGV[0].to_f)
