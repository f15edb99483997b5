/* The entry point of the `vireo` command: finds the subcommand and calls it. */
#include <stdio.h>

int main(void)
{
	puts("vireo " VIREO_VERSION);
	return 0;
}
