/*
 * Maps a section into another process again and again, and kills that process meanwhile: whether the mapper comes back from that.
 * Windows maps memory into a process by itself; Wine asks one of the process's threads to do it.
 *
 * Says "returns" (exit status 0), or "hangs" (exit status 2). Without the means to find out: exit status 1.
 */
#include <stdio.h>
#include <string.h>
#include <windows.h>
#include <winternl.h>

#define ROUNDS 12
#define BYTES 0x10000
#define LIMIT_MS 10000

NTSYSAPI NTSTATUS NTAPI NtMapViewOfSection(HANDLE section, HANDLE process, void **base, ULONG_PTR zero_bits, SIZE_T commit,
                                           LARGE_INTEGER *offset, SIZE_T *size, ULONG inherit, ULONG type, ULONG protection);
NTSYSAPI NTSTATUS NTAPI NtUnmapViewOfSection(HANDLE process, void *base);

struct job {
    HANDLE section;
    HANDLE process;
};

/* Until the process is gone. */
static DWORD WINAPI map(void *argument)
{
    const struct job *job = argument;
    for (;;) {
        void *base = NULL;
        SIZE_T size = 0;
        const ULONG view_unmap = 2;
        if (NtMapViewOfSection(job->section, job->process, &base, 0, 0, NULL, &size, view_unmap, 0, PAGE_READWRITE) < 0)
            return 0;
        if (NtUnmapViewOfSection(job->process, base) < 0)
            return 0;
    }
}

static int one_round(char *command, HANDLE section, DWORD delay_ms)
{
    STARTUPINFOA startup = { .cb = sizeof startup };
    PROCESS_INFORMATION child;
    if (!CreateProcessA(NULL, command, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &child))
        return 1;
    struct job job = { section, child.hProcess };
    HANDLE mapper = CreateThread(NULL, 0, map, &job, 0, NULL);
    if (!mapper) {
        TerminateProcess(child.hProcess, 0);
        return 1;
    }
    Sleep(delay_ms);
    TerminateProcess(child.hProcess, 0);
    int hangs = WaitForSingleObject(mapper, LIMIT_MS) != WAIT_OBJECT_0;
    CloseHandle(child.hThread);
    CloseHandle(child.hProcess);
    return hangs ? 2 : 0;
}

int main(int argc, char **argv)
{
    char command[MAX_PATH + 16];
    if (argc > 1 && strcmp(argv[1], "child") == 0) {
        Sleep(INFINITE);
        return 0;
    }
    snprintf(command, sizeof command, "\"%s\" child", argv[0]);
    HANDLE section = CreateFileMappingA(INVALID_HANDLE_VALUE, NULL, PAGE_READWRITE, 0, BYTES, NULL);
    int result = section ? 0 : 1;
    for (DWORD round = 0; round < ROUNDS && result == 0; round++)
        result = one_round(command, section, 100 + 7 * round);
    static const char *const says[] = { "returns", "can't tell", "hangs" };
    puts(says[result]);
    fflush(stdout);
    /* Doesn't wait for a thread that hangs. */
    ExitProcess((UINT)result);
}
