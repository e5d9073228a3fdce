// Burns CPU time for some seconds in trait objects, generics, closures and an
// iterator, in a thread.
use std::time::{Duration, Instant};

trait Item {
    fn price(&self) -> u64;
}

struct Book(u64);

impl Item for Book {
    #[inline(never)]
    fn price(&self) -> u64 {
        burn(self.0)
    }
}

#[inline(never)]
fn burn(seed: u64) -> u64 {
    let mut x = seed;
    for i in 0..20000u64 {
        x = std::hint::black_box(x.wrapping_mul(31).wrapping_add(i));
    }
    x
}

#[inline(never)]
fn sum<F: Fn(&dyn Item) -> u64>(items: &[Box<dyn Item>], price: F) -> u64 {
    items.iter().map(|item| price(item.as_ref())).fold(0, u64::wrapping_add)
}

#[inline(never)]
fn checkout(items: &[Box<dyn Item>]) -> u64 {
    std::hint::black_box(sum(items, |item| item.price() ^ 1))
}

#[inline(never)]
fn work(end: Instant) -> u64 {
    let items: Vec<Box<dyn Item>> = (0..10).map(|i| Box::new(Book(i)) as Box<dyn Item>).collect();
    let mut total = 0u64;
    while Instant::now() < end {
        total = total.wrapping_add(checkout(&items));
    }
    total
}

fn main() {
    let seconds: f64 = std::env::args().nth(1).unwrap().parse().unwrap();
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let total = std::thread::spawn(move || work(end)).join().unwrap();
    std::hint::black_box(total);
}
