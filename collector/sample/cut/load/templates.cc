// Takes a C++ compiler some seconds.
#include <map>
#include <regex>
#include <string>
#include <vector>

using Table = std::map<int, std::vector<std::string>>;

template <int N> struct Find {
  static int in(Table &table) {
    for (auto &[key, values] : table)
      for (auto &value : values)
        if (std::regex_match(value, std::regex("a*b" + std::to_string(N))))
          return key;
    return Find<N - 1>::in(table);
  }
};

template <> struct Find<0> {
  static int in(Table &) { return 0; }
};

int main() {
  Table table;
  return Find<60>::in(table);
}
