// Rust: generics, closures, traits.
use std::collections::HashMap;

trait Price {
    fn price(&self) -> u64;
}
struct Item(u64);
impl Price for Item {
    #[inline(never)]
    fn price(&self) -> u64 {
        self.0 * 3
    }
}
#[inline(never)]
fn total<P: Price>(items: &[P]) -> u64 {
    items.iter().map(|i| i.price()).sum()
}
fn main() {
    let mut m = HashMap::new();
    m.insert("a", total(&[Item(1), Item(2)]));
    println!("{:?}", m);
}
