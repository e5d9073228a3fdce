// C++: namespaces, templates, lambdas, constructors, operators.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace shop {
template <typename T> struct Basket {
  std::vector<T> items;
  __attribute__((noinline)) Basket() { items.reserve(4); }
  __attribute__((noinline)) void add(const T &v) { items.push_back(v); }
  __attribute__((noinline)) bool operator<(const Basket &o) const { return items.size() < o.items.size(); }
};
namespace {
__attribute__((noinline)) int hidden(int n) { return n * 7; }
}
__attribute__((noinline)) int total(const Basket<int> &b) {
  int sum = 0;
  std::for_each(b.items.begin(), b.items.end(), [&](int v) { sum += hidden(v); });
  return sum;
}
} // namespace shop

int main(int argc, char **) {
  shop::Basket<int> a, b;
  shop::Basket<std::string> names;
  for (int i = 0; i < argc; i++) a.add(i);
  names.add("x");
  std::map<std::string, int> counts;
  counts["y"] = shop::total(a);
  return (a < b) + counts["y"];
}
