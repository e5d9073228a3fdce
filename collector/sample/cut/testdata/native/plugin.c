// A library: plugin_each calls a function again and again.
void plugin_each(int (*each)(void *), void *arg)
{
	for (int i = 0; i < 10; i++)
		if (!each(arg))
			return;
	__asm__ volatile("");
}
