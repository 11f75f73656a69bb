//! Translation between status codes and the kernel's `errno` numbers: `RTErrConvert*`.

use super::runtime::Ring0;
use crate::abi::Status;
use crate::abi::status::*;
use crate::os::{Errno, OsModule};

/// A row: the numbers on Linux, FreeBSD, Darwin, Solaris and in the Windows C runtime (0 where there is none), and the status they stand for.
type Row = ([u16; 5], Status);

/// Both ways; for `errno` → status the first row of a number counts, for status → `errno` the first row of a status.
const BOTH_WAYS: &[Row] = &[
    ([1, 1, 1, 1, 1], VERR_ACCESS_DENIED),
    ([2, 2, 2, 2, 2], VERR_FILE_NOT_FOUND),
    ([3, 3, 3, 3, 3], VERR_PROCESS_NOT_FOUND),
    ([4, 4, 4, 4, 4], VERR_INTERRUPTED),
    ([5, 5, 5, 5, 5], VERR_DEV_IO_ERROR),
    ([7, 7, 7, 7, 7], VERR_TOO_MUCH_DATA),
    ([8, 8, 8, 8, 8], VERR_BAD_EXE_FORMAT),
    ([9, 9, 9, 9, 9], VERR_INVALID_HANDLE),
    ([11, 35, 35, 11, 11], VERR_TRY_AGAIN),
    ([12, 12, 12, 12, 12], VERR_NO_MEMORY),
    ([14, 14, 14, 14, 14], VERR_INVALID_POINTER),
    ([16, 16, 16, 16, 16], VERR_RESOURCE_BUSY),
    ([17, 17, 17, 17, 17], VERR_ALREADY_EXISTS),
    ([18, 18, 18, 18, 18], VERR_NOT_SAME_DEVICE),
    ([20, 20, 20, 20, 20], VERR_PATH_NOT_FOUND),
    ([20, 20, 20, 20, 20], VERR_NOT_A_DIRECTORY),
    ([21, 21, 21, 21, 21], VERR_IS_A_DIRECTORY),
    ([22, 22, 22, 22, 22], VERR_INVALID_PARAMETER),
    ([23, 23, 23, 23, 23], VERR_TOO_MANY_OPEN_FILES),
    ([25, 25, 25, 25, 25], VERR_INVALID_FUNCTION),
    ([26, 26, 26, 26, 0], VERR_SHARING_VIOLATION),
    ([27, 27, 27, 27, 27], VERR_FILE_TOO_BIG),
    ([28, 28, 28, 28, 28], VERR_DISK_FULL),
    ([29, 29, 29, 29, 29], VERR_SEEK_ON_DEVICE),
    ([30, 30, 30, 30, 30], VERR_WRITE_PROTECT),
    ([32, 32, 32, 32, 32], VERR_BROKEN_PIPE),
    ([35, 11, 11, 45, 36], VERR_DEADLOCK),
    ([36, 63, 63, 78, 38], VERR_FILENAME_TOO_LONG),
    ([37, 77, 77, 46, 39], VERR_FILE_LOCK_FAILED),
    ([38, 78, 78, 89, 40], VERR_NOT_SUPPORTED),
    ([38, 78, 78, 89, 40], VERR_NOT_IMPLEMENTED),
    ([39, 66, 66, 93, 41], VERR_DIR_NOT_EMPTY),
    ([40, 62, 62, 90, 114], VERR_TOO_MANY_SYMLINKS),
    ([61, 0, 96, 61, 120], VERR_NO_DATA),
    ([84, 86, 92, 88, 42], VERR_NO_TRANSLATION),
    ([110, 60, 60, 145, 138], VERR_TIMEOUT),
    ([123, 0, 0, 0, 0], VERR_MEDIA_NOT_PRESENT),
    ([124, 0, 0, 0, 0], VERR_MEDIA_NOT_RECOGNIZED),
    ([0, 67, 67, 0, 0], VERR_MAX_PROCS_REACHED),
    ([0, 88, 0, 0, 0], VERR_INTERNAL_ERROR),
    ([0, 88, 0, 0, 0], VERR_INTERNAL_ERROR_2),
    ([0, 88, 0, 0, 0], VERR_INTERNAL_ERROR_3),
    ([64, 0, 0, 64, 0], VERR_NET_NO_NETWORK),
    ([76, 0, 0, 80, 0], VERR_NET_NOT_UNIQUE_NAME),
    ([115, 36, 36, 150, 112], VERR_NET_IN_PROGRESS),
    ([114, 37, 37, 149, 103], VERR_NET_ALREADY_IN_PROGRESS),
    ([88, 38, 38, 95, 128], VERR_NET_NOT_SOCKET),
    ([89, 39, 39, 96, 109], VERR_NET_DEST_ADDRESS_REQUIRED),
    ([90, 40, 40, 97, 115], VERR_NET_MSG_SIZE),
    ([91, 41, 41, 98, 136], VERR_NET_PROTOCOL_TYPE),
    ([92, 42, 42, 99, 123], VERR_NET_PROTOCOL_NOT_AVAILABLE),
    ([93, 43, 43, 120, 135], VERR_NET_PROTOCOL_NOT_SUPPORTED),
    ([94, 44, 44, 121, 0], VERR_NET_SOCKET_TYPE_NOT_SUPPORTED),
    ([95, 45, 102, 122, 130], VERR_NET_OPERATION_NOT_SUPPORTED),
    ([96, 46, 46, 123, 0], VERR_NET_PROTOCOL_FAMILY_NOT_SUPPORTED),
    ([97, 47, 47, 124, 102], VERR_NET_ADDRESS_FAMILY_NOT_SUPPORTED),
    ([98, 48, 48, 125, 100], VERR_NET_ADDRESS_IN_USE),
    ([99, 49, 49, 126, 101], VERR_NET_ADDRESS_NOT_AVAILABLE),
    ([100, 50, 50, 127, 116], VERR_NET_DOWN),
    ([101, 51, 51, 128, 118], VERR_NET_UNREACHABLE),
    ([102, 52, 52, 129, 117], VERR_NET_CONNECTION_RESET),
    ([103, 53, 53, 130, 106], VERR_NET_CONNECTION_ABORTED),
    ([104, 54, 54, 131, 108], VERR_NET_CONNECTION_RESET_BY_PEER),
    ([105, 55, 55, 132, 119], VERR_NET_NO_BUFFER_SPACE),
    ([106, 56, 56, 133, 113], VERR_NET_ALREADY_CONNECTED),
    ([107, 57, 57, 134, 126], VERR_NET_NOT_CONNECTED),
    ([108, 58, 58, 143, 0], VERR_NET_SHUTDOWN),
    ([109, 59, 59, 144, 0], VERR_NET_TOO_MANY_REFERENCES),
    ([111, 61, 61, 146, 107], VERR_NET_CONNECTION_REFUSED),
    ([112, 64, 64, 147, 0], VERR_NET_HOST_DOWN),
    ([113, 65, 65, 148, 110], VERR_NET_HOST_UNREACHABLE),
];

/// Further numbers, which no status becomes.
const FROM_ERRNO: &[Row] = &[
    ([13, 13, 13, 13, 13], VERR_ACCESS_DENIED),
    ([10, 10, 10, 10, 10], VERR_PROCESS_NOT_FOUND),
    ([85, 0, 0, 91, 0], VERR_INTERRUPTED),
    ([6, 6, 6, 6, 6], VERR_DEV_IO_ERROR),
    ([19, 19, 19, 19, 19], VERR_NOT_SUPPORTED),
    // ENOTSUP, where it isn't EOPNOTSUPP.
    ([0, 0, 45, 48, 129], VERR_NOT_SUPPORTED),
    ([33, 33, 33, 33, 33], VERR_INVALID_PARAMETER),
    ([34, 34, 34, 34, 34], VERR_INVALID_PARAMETER),
    ([24, 24, 24, 24, 24], VERR_TOO_MANY_OPEN_FILES),
    ([75, 84, 84, 79, 132], VERR_TOO_MUCH_DATA),
    ([77, 0, 0, 81, 0], VERR_INVALID_HANDLE),
    ([122, 69, 69, 49, 0], VERR_DISK_FULL),
    ([71, 92, 100, 71, 134], VERR_NET_PROTOCOL_ERROR),
];

/// What a status without a number becomes: EPROTO.
const EPROTO: [u16; 5] = [71, 92, 100, 71, 134];

/// The number of a row on a system, 0 if it has none.
fn number(numbers: &[u16; 5], errno: Errno) -> u32 {
    let [linux, freebsd, darwin, solaris, c_runtime] = *numbers;
    u32::from(match errno {
        Errno::Linux => linux,
        Errno::FreeBsd => freebsd,
        Errno::Darwin => darwin,
        Errno::Solaris => solaris,
        Errno::CRuntime => c_runtime,
    })
}

/// The status that stands for a native number.
pub fn status_of(errno: Errno, native: u32) -> Status {
    if native == 0 {
        return VINF_SUCCESS;
    }
    let rows = BOTH_WAYS.iter().chain(FROM_ERRNO);
    let found = rows.into_iter().find(|(numbers, _)| number(numbers, errno) == native);
    found.map_or(VERR_UNRESOLVED_ERROR, |(_, status)| *status)
}

fn errno_of(errno: Errno, status: Status) -> u32 {
    if status.is_success() {
        return 0;
    }
    let found = BOTH_WAYS.iter().find(|(numbers, row)| *row == status && number(numbers, errno) != 0);
    number(found.map_or(&EPROTO, |(numbers, _)| numbers), errno)
}

/// The status of a native number; unknown ones: `VERR_UNRESOLVED_ERROR`. Any context.
pub unsafe fn from_errno<R: Ring0>(native: u32) -> i32 {
    status_of(<R::Os as OsModule>::ERRNO, native).0
}

/// The native number of a status; unknown ones: EPROTO. Any context.
pub unsafe fn to_errno<R: Ring0>(status: i32) -> i32 {
    errno_of(<R::Os as OsModule>::ERRNO, Status(status)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Errno; 5] = [Errno::Linux, Errno::FreeBsd, Errno::Darwin, Errno::Solaris, Errno::CRuntime];

    #[test]
    fn samples_of_the_specification() {
        assert_eq!(errno_of(Errno::Linux, VERR_WRONG_ORDER), 71);
        assert_eq!(errno_of(Errno::Linux, Status(85)), 0);
        assert_eq!(errno_of(Errno::FreeBsd, VERR_INTERNAL_ERROR_2), 88);
        assert_eq!(errno_of(Errno::Linux, VERR_INTERNAL_ERROR_2), 71);
        assert_eq!(status_of(Errno::Linux, 7), VERR_TOO_MUCH_DATA);
        assert_eq!(status_of(Errno::Linux, 1000), VERR_UNRESOLVED_ERROR);
        assert_eq!(status_of(Errno::Darwin, 45), VERR_NOT_SUPPORTED);
        assert_eq!(status_of(Errno::FreeBsd, 45), VERR_NET_OPERATION_NOT_SUPPORTED);
    }

    #[test]
    fn numbers_come_back_as_they_went() {
        for errno in ALL {
            for native in 1..200 {
                let status = status_of(errno, native);
                let only_one_way = FROM_ERRNO.iter().any(|(numbers, _)| number(numbers, errno) == native);
                if status != VERR_UNRESOLVED_ERROR && !only_one_way {
                    assert_eq!(errno_of(errno, status), native, "{errno:?} {native} {status:?}");
                }
            }
        }
    }
}
