//! Prints `include/supdrv.h` from the Rust definitions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::string::String;

use crate::abi::layout::{StructLayout, WIDTH};
use crate::abi::{gip, idc, ioctl, published, requests, status};

const PROLOGUE: &str = "/* SPDX-License-Identifier: GPL-2.0-only OR CDDL-1.0 */
/*
 * C interface of supdrv-core. Printed from the Rust definitions: do not edit.
 *
 * Structures are described by the offset and size of their members (in bytes, for the pointer width being compiled for),
 * so that any C declaration of them can be checked: see SUPDRV_CHECK_MEMBER.
 */
#ifndef SUPDRV_H
#define SUPDRV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern \"C\" {
#endif

typedef struct SUPDRVDEVEXT SUPDRVDEVEXT;
typedef struct SUPDRVSESSION SUPDRVSESSION;
typedef struct SUPREQHDR
{
    uint32_t u32Cookie;
    uint32_t u32SessionCookie;
    uint32_t cbIn;
    uint32_t cbOut;
    uint32_t fFlags;
    int32_t  rc;
} SUPREQHDR;

/* Entry points. Context: T = thread, may block; I = any, also with interrupts off. */
/* T */ int32_t  supdrvInitDevExt(SUPDRVDEVEXT *pDevExt, size_t cbSession);
/* T */ void     supdrvDeleteDevExt(SUPDRVDEVEXT *pDevExt);
/* T */ int32_t  supdrvCreateSession(SUPDRVDEVEXT *pDevExt, bool fUser, bool fUnrestricted, SUPDRVSESSION **ppSession);
/* I */ uint32_t supdrvSessionRetain(SUPDRVSESSION *pSession);
/* T if it may be the last reference, else I */
uint32_t         supdrvSessionRelease(SUPDRVSESSION *pSession);
/* T */ int32_t  supdrvIOCtl(uintptr_t uIOCtl, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, SUPREQHDR *pReqHdr);
/* T; cbReq is the size of the buffer at pReqHdr */
int32_t          supdrvIOCtlSized(uintptr_t uIOCtl, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, SUPREQHDR *pReqHdr,
                                  size_t cbReq);
/* T */ int32_t  supdrvIOCtlFast(uintptr_t uIOCtl, uint32_t idCpu, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession);

/* T; pSession is NULL to connect. 0: the packet's header holds the request's own status. */
struct SUPDRVIDCREQHDR;
int32_t          supdrvIDC(uintptr_t uIOCtl, SUPDRVDEVEXT *pDevExt, SUPDRVSESSION *pSession, struct SUPDRVIDCREQHDR *pReqHdr);

/* Checks a member of a C declaration: SUPDRV_CHECK_MEMBER(SUPDRVSESSION, cRefs); */
#define SUPDRV_CHECK_MEMBER(Struct, Member) \\
    _Static_assert(   offsetof(Struct, Member) == SUPDRV_OFF_##Struct##_##Member \\
                   && sizeof(((Struct *)0)->Member) == SUPDRV_SIZE_##Struct##_##Member, #Struct \"::\" #Member)

";

/// The text of the header for this host's pointer width.
#[must_use]
pub fn print() -> String {
    let mut text = String::from(PROLOGUE);
    let mut line = |args: std::fmt::Arguments<'_>| {
        let _infallible = text.write_fmt(args);
        text.push('\n');
    };
    line(format_args!("/* Status codes. */"));
    for (name, code) in status::ALL {
        line(format_args!("#define {name} ({})", code.0));
    }
    line(format_args!("\n/* Requests. */"));
    line(format_args!("#define SUPDRV_IOC_VERSION UINT32_C({:#010x})", ioctl::IOC_VERSION));
    line(format_args!("#define SUPCOOKIE_INITIAL_COOKIE UINT32_C({:#010x})", ioctl::INITIAL_COOKIE));
    line(format_args!("#define SUPREQHDR_FLAGS_MAGIC UINT32_C({:#010x})", ioctl::FLAGS_MAGIC));
    for function in ioctl::Function::ALL {
        line(format_args!("#define SUP_FUNCTION_{} {}", function.c_name(), *function as u32));
    }
    line(format_args!("\n/* Structures: the C size of a packet is that of its larger direction. */"));
    let all = requests::LAYOUTS.iter().chain(idc::LAYOUTS).chain(published::LAYOUTS).chain(gip::LAYOUTS);
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    let layouts: std::vec::Vec<&StructLayout> = all.collect();
    for layout in &layouts {
        let size = sizes.entry(layout.c_name).or_default();
        *size = (*size).max(layout.size[WIDTH]);
    }
    for (name, size) in &sizes {
        line(format_args!("#define SUPDRV_SIZE_{name} {size:#x}"));
    }
    for layout in layouts {
        let prefix = layout.prefix.replace("u.", "").replace('.', "_");
        for field in layout.fields {
            let name = std::format!("{}_{prefix}{}", layout.c_name, field.c_name.replace('.', "_"));
            line(format_args!("#define SUPDRV_OFF_{name} {:#x}", field.offset[WIDTH]));
            line(format_args!("#define SUPDRV_SIZE_{name} {:#x}", field.size[WIDTH]));
        }
    }
    text.push_str("\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* SUPDRV_H */\n");
    text
}
