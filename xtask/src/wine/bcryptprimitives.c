/* Stands in for a library that Rust programs import and that old versions of Wine don't have: random numbers. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(void *buffer, ULONG bytes);

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE *buffer, SIZE_T bytes)
{
    while (bytes != 0) {
        ULONG part = bytes > 0x10000 ? 0x10000 : (ULONG)bytes;
        if (!SystemFunction036(buffer, part))
            return FALSE;
        buffer += part;
        bytes -= part;
    }
    return TRUE;
}
