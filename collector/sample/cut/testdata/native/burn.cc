// Burns CPU time for some seconds in virtual functions, templates, lambdas and
// functions that throw.
#include "burn.h"
#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

namespace shop {

struct Item {
	virtual ~Item() = default;
	virtual unsigned long price() const = 0;
};

struct Book : Item {
	NOINLINE unsigned long price() const override
	{
		burn();
		return sink;
	}
};

template <typename Each> NOINLINE unsigned long sum(const std::vector<std::unique_ptr<Item>> &items, Each each)
{
	unsigned long total = 0;
	for (const auto &item : items)
		total += each(*item);
	return total;
}

NOINLINE unsigned long checkout(const std::vector<std::unique_ptr<Item>> &items)
{
	std::function<unsigned long(const Item &)> price = [](const Item &item) { return item.price() + 1; };
	unsigned long total = sum(items, price);
	if (total % 3 == 0)
		throw std::runtime_error("sold out");
	return total;
}

NOINLINE unsigned long work(double end)
{
	std::vector<std::unique_ptr<Item>> items;
	for (int i = 0; i < 10; i++)
		items.push_back(std::make_unique<Book>());
	unsigned long total = 0;
	while (now() < end) {
		try {
			total += checkout(items);
		} catch (const std::exception &) {
			total++;
		}
	}
	return total;
}

} // namespace shop

int main(int, char **argv)
{
	return shop::work(now() + std::atof(argv[1])) == 0;
}
