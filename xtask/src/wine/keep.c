/* Keeps a Windows system of Wine running: it shuts its services down with the last program. */
#include <windows.h>

int main(void)
{
    Sleep(15 * 60 * 1000);
    return 0;
}
