extern unsigned long goLeaf(unsigned long);

__attribute__((noinline)) unsigned long viaC(unsigned long n)
{
	return goLeaf(n) + 1;
}

__attribute__((noinline)) static unsigned long leafInC(unsigned long n)
{
	for (int i = 0; i < 2000; i++)
		n = (n ^ n >> 3) * 1099511628211ul;
	return n;
}

unsigned long inC(unsigned long n)
{
	return leafInC(n) + 1;
}
