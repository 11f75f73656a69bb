//! How C spells the type of a member.
//!
//! The prefix of a C name says what it is: `c` counts, `cb` bytes, `f` flags and booleans, `sz` text, `pv` a pointer. With the Rust type
//! that settles most members; the others are in [`DECLARATIONS`].

use std::string::{String, ToString};

use super::c_struct_of;
use crate::abi::idc::IdcRequest;
use crate::abi::layout::Field;

/// Enumerations: their tag, and how their constants begin.
pub const ENUMS: &[(&str, &str)] = &[
    ("SUPDRVMEMREFTYPE", "MEMREF_TYPE_"),
    ("SUPDRVOBJTYPE", "SUPDRVOBJTYPE_"),
    ("SUPGIPCPUSTATE", "SUPGIPCPUSTATE_"),
    ("SUPGIPMODE", "SUPGIPMODE_"),
    ("SUPLDRLOADEP", "SUPLDRLOADEP_"),
    ("SUPMSRPROBEROP", "SUPMSRPROBEROP_"),
    ("SUPPAGINGMODE", "SUPPAGINGMODE_"),
    ("kVTGClass", "kVTGClass_"),
    ("kVTGStability", "kVTGStability_"),
];

/// Structures in which nothing is aligned to more than 4 bytes.
pub const PACKED: &[&str] = &["SUPPAGE"];

/// Names of members that are unions, also while only one of their members is known.
pub const UNIONS: &[&str] = &["u", "EP", "uArg", "uArgs", "uResults", "uProbeLocs", "uProbeLocsEnd"];

/// Whether a member shares its word with others.
pub fn is_bit_field(name: &str) -> bool {
    matches!(name, "uLine" | "fEnabled")
}

/// Declarations that don't follow from name and Rust type: by structure and path, or by `*` and the last name alone.
const DECLARATIONS: &[(&str, &str, &str)] = &[
    // Sessions.
    ("*", "pDevExt", "SUPDRVDEVEXT *pDevExt"),
    ("*", "cRefs", "uint32_t volatile cRefs"),
    ("*", "cUsage", "uint32_t volatile cUsage"),
    ("SUPDRVSESSION", "pVM", "PVM pVM"),
    ("SUPDRVSESSION", "hHandleTable", "RTHANDLETABLE hHandleTable"),
    ("SUPDRVSESSION", "pLdrUsage", "SUPDRVLDRUSAGE * volatile pLdrUsage"),
    ("*", "Spinlock", "RTSPINLOCK Spinlock"),
    ("*", "GipMapObjR3", "RTR0MEMOBJ GipMapObjR3"),
    ("SUPDRVSESSION", "pUsage", "SUPDRVUSAGE * volatile pUsage"),
    ("*", "Uid", "RTUID Uid"),
    ("*", "Gid", "RTGID Gid"),
    ("*", "Process", "RTPROCESS Process"),
    ("*", "R0Process", "RTR0PROCESS R0Process"),
    ("*", "hTracerCaller", "RTNATIVETHREAD hTracerCaller"),
    ("*", "TpProviders", "RTLISTANCHOR TpProviders"),
    ("*", "TpUmods", "RTLISTANCHOR TpUmods"),
    ("*", "cTpProbesFiring", "uint32_t volatile cTpProbesFiring"),
    ("*", "apTpLookupTable", "struct SUPDRVTRACERUMOD *apTpLookupTable[32]"),
    ("RTLISTNODE", "pNext", "struct RTLISTNODE *pNext"),
    ("RTLISTNODE", "pPrev", "struct RTLISTNODE *pPrev"),
    ("*", "MemObj", "RTR0MEMOBJ MemObj"),
    ("*", "MapObjR3", "RTR0MEMOBJ MapObjR3"),
    ("SUPDRVMEMREF", "eType", "SUPDRVMEMREFTYPE eType"),
    ("SUPDRVBUNDLE", "pNext", "struct SUPDRVBUNDLE * volatile pNext"),
    ("SUPDRVBUNDLE", "cUsed", "uint32_t volatile cUsed"),
    // The device extension.
    ("SUPDRVDEVEXT", "pObjs", "SUPDRVOBJ * volatile pObjs"),
    ("SUPDRVDEVEXT", "pUsageFree", "SUPDRVUSAGE * volatile pUsageFree"),
    ("SUPDRVDEVEXT", "mtxLdr", "SUPDRVLDRMUTEX mtxLdr"),
    ("SUPDRVDEVEXT", "mtxGip", "SUPDRVGIPMUTEX mtxGip"),
    ("SUPDRVDEVEXT", "pvVMMR0", "void * volatile pvVMMR0"),
    ("*", "pfnVMMR0EntryInt", "int (*pfnVMMR0EntryInt)(PVM pVM, unsigned uOperation, void *pvArg)"),
    ("*", "pfnVMMR0EntryFast", "void (*pfnVMMR0EntryFast)(PVM pVM, VMCPUID idCpu, unsigned uOperation)"),
    (
        "*",
        "pfnVMMR0EntryEx",
        "int (*pfnVMMR0EntryEx)(PVM pVM, VMCPUID idCpu, unsigned uOperation, SUPVMMR0REQHDR *pReq, uint64_t u64Arg, SUPDRVSESSION *pSession)",
    ),
    ("SUPDRVDEVEXT", "pLdrImages", "SUPDRVLDRIMAGE * volatile pLdrImages"),
    ("SUPDRVDEVEXT", "pLdrInitImage", "SUPDRVLDRIMAGE * volatile pLdrInitImage"),
    ("SUPDRVDEVEXT", "hLdrInitThread", "RTNATIVETHREAD volatile hLdrInitThread"),
    ("*", "hGipSpinlock", "RTSPINLOCK hGipSpinlock"),
    ("SUPDRVDEVEXT", "pGip", "SUPGLOBALINFOPAGE *pGip"),
    ("*", "HCPhysGip", "RTHCPHYS HCPhysGip"),
    ("SUPDRVDEVEXT", "cGipUsers", "uint32_t volatile cGipUsers"),
    ("*", "GipMemObj", "RTR0MEMOBJ GipMemObj"),
    ("*", "pGipTimer", "PRTTIMER pGipTimer"),
    ("*", "idGipMaster", "RTCPUID volatile idGipMaster"),
    ("*", "mtxComponentFactory", "RTSEMFASTMUTEX mtxComponentFactory"),
    ("*", "pComponentFactoryHead", "SUPDRVFACTORYREG *pComponentFactoryHead"),
    ("*", "mtxTracer", "RTSEMFASTMUTEX mtxTracer"),
    ("*", "TracerProviderList", "RTLISTANCHOR TracerProviderList"),
    ("*", "TracerProviderZombieList", "RTLISTANCHOR TracerProviderZombieList"),
    ("*", "pTracerOps", "const SUPDRVTRACERREG *pTracerOps"),
    ("*", "pTracerSession", "SUPDRVSESSION *pTracerSession"),
    ("*", "pTracerImage", "SUPDRVLDRIMAGE *pTracerImage"),
    ("*", "TracerHlp", "SUPDRVTRACERHLP TracerHlp"),
    ("*", "cTracerCallers", "uint32_t volatile cTracerCallers"),
    ("*", "aTrackerUmodHash", "RTLISTANCHOR aTrackerUmodHash[128]"),
    // Objects and images.
    ("SUPDRVOBJ", "enmType", "SUPDRVOBJTYPE enmType"),
    ("SUPDRVOBJ", "pNext", "struct SUPDRVOBJ * volatile pNext"),
    ("SUPDRVOBJ", "pfnDestructor", "PFNSUPDRVDESTRUCTOR pfnDestructor"),
    ("*", "CreatorUid", "RTUID CreatorUid"),
    ("*", "CreatorGid", "RTGID CreatorGid"),
    ("*", "CreatorProcess", "RTPROCESS CreatorProcess"),
    ("SUPDRVUSAGE", "pNext", "struct SUPDRVUSAGE * volatile pNext"),
    ("SUPDRVUSAGE", "pObj", "SUPDRVOBJ *pObj"),
    ("SUPDRVLDRUSAGE", "pNext", "struct SUPDRVLDRUSAGE * volatile pNext"),
    ("SUPDRVLDRUSAGE", "pImage", "SUPDRVLDRIMAGE *pImage"),
    ("SUPDRVLDRIMAGE", "pNext", "struct SUPDRVLDRIMAGE * volatile pNext"),
    ("SUPDRVLDRIMAGE", "paSymbols", "SUPLDRSYM *paSymbols"),
    ("SUPDRVLDRIMAGE", "pachStrTab", "char *pachStrTab"),
    ("SUPDRVLDRIMAGE", "pfnModuleInit", "PFNR0MODULEINIT pfnModuleInit"),
    ("SUPDRVLDRIMAGE", "pfnModuleTerm", "PFNR0MODULETERM pfnModuleTerm"),
    ("SUPDRVLDRIMAGE", "pfnServiceReqHandler", "PFNSUPR0SERVICEREQHANDLER pfnServiceReqHandler"),
    ("SUPDRVFACTORYREG", "pNext", "struct SUPDRVFACTORYREG *pNext"),
    ("*", "pFactory", "const SUPDRVFACTORY *pFactory"),
    ("*", "pSession", "SUPDRVSESSION *pSession"),
    ("*", "cchName", "size_t cchName"),
    (
        "*",
        "pfnQueryFactoryInterface",
        "void *(*pfnQueryFactoryInterface)(const SUPDRVFACTORY *pSupDrvFactory, SUPDRVSESSION *pSession, const char *pszInterfaceUuid)",
    ),
    ("SUPPAGE", "Phys", "RTHCPHYS Phys"),
    // Requests.
    ("SUPLDRLOAD", "u.In.pfnModuleInit", "PFNR0MODULEINIT pfnModuleInit"),
    ("SUPLDRLOAD", "u.In.pfnModuleTerm", "PFNR0MODULETERM pfnModuleTerm"),
    ("SUPLDRLOAD", "u.In.eEPType", "SUPLDRLOADEP eEPType"),
    ("*", "pfnServiceReq", "PFNSUPR0SERVICEREQHANDLER pfnServiceReq"),
    ("*", "apvReserved", "void *apvReserved[3]"),
    ("*", "pVMR0", "PVMR0 pVMR0"),
    ("*", "aPages", "RTHCPHYS aPages[1]"),
    ("*", "HCPhys", "RTHCPHYS HCPhys"),
    ("*", "pvR3", "RTR3PTR pvR3"),
    ("*", "pGipR3", "RTR3PTR pGipR3"),
    ("*", "pGipR0", "SUPGLOBALINFOPAGE *pGipR0"),
    ("SUPGETPAGINGMODE", "u.Out.enmMode", "SUPPAGINGMODE enmMode"),
    ("SUPMSRPROBER", "u.In.enmOp", "SUPMSRPROBEROP enmOp"),
    ("*", "R3PtrVtgHdr", "RTR3PTR R3PtrVtgHdr"),
    ("*", "R3PtrStrTab", "RTR3PTR R3PtrStrTab"),
    ("SUPTRACERUMODDEREG", "u.In.pVtgHdr", "RTR3PTR pVtgHdr"),
    ("SUPTRACERUMODFIREPROBE", "u.In", "SUPDRVTRACERUSRCTX In"),
    ("*", "uVtgHdrAddr", "RTUINTPTR uVtgHdrAddr"),
    // The page.
    ("*", "OnlineCpuSet", "RTCPUSET OnlineCpuSet"),
    ("*", "PresentCpuSet", "RTCPUSET PresentCpuSet"),
    ("*", "PossibleCpuSet", "RTCPUSET PossibleCpuSet"),
    ("SUPGIPCPU", "u32TransactionId", "uint32_t volatile u32TransactionId"),
    ("SUPGIPCPU", "u64NanoTS", "uint64_t volatile u64NanoTS"),
    ("SUPGIPCPU", "u64TSC", "uint64_t volatile u64TSC"),
    ("SUPGIPCPU", "u64CpuHz", "uint64_t volatile u64CpuHz"),
    ("SUPGIPCPU", "u32UpdateIntervalTSC", "uint32_t volatile u32UpdateIntervalTSC"),
    ("SUPGIPCPU", "cErrors", "uint32_t volatile cErrors"),
    ("SUPGIPCPU", "enmState", "SUPGIPCPUSTATE enmState"),
    ("SUPGIPCPU", "iCpuSet", "int16_t iCpuSet"),
    // The tracer.
    (
        "*",
        "pfnProbeFireKernel",
        "void (*pfnProbeFireKernel)(VTGPROBELOC *pVtgProbeLoc, uintptr_t uArg0, uintptr_t uArg1, uintptr_t uArg2, uintptr_t uArg3, uintptr_t uArg4)",
    ),
    (
        "*",
        "pfnProbeFireUser",
        "void (*pfnProbeFireUser)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, const SUPDRVTRACERUSRCTX *pCtx, const VTGOBJHDR *pVtgHdr, const VTGPROBELOC *pProbeLocRO)",
    ),
    (
        "*",
        "pfnTracerOpen",
        "int (*pfnTracerOpen)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, uint32_t uCookie, uintptr_t uArg, uintptr_t *puSessionData)",
    ),
    (
        "*",
        "pfnTracerIoCtl",
        "int (*pfnTracerIoCtl)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, uintptr_t uSessionData, uintptr_t uCmd, uintptr_t uArg, int32_t *piRetVal)",
    ),
    (
        "*",
        "pfnTracerClose",
        "void (*pfnTracerClose)(const SUPDRVTRACERREG *pThis, SUPDRVSESSION *pSession, uintptr_t uSessionData)",
    ),
    (
        "*",
        "pfnProviderRegister",
        "int (*pfnProviderRegister)(const SUPDRVTRACERREG *pThis, SUPDRVVDTPROVIDERCORE *pCore)",
    ),
    (
        "*",
        "pfnProviderDeregister",
        "int (*pfnProviderDeregister)(const SUPDRVTRACERREG *pThis, SUPDRVVDTPROVIDERCORE *pCore)",
    ),
    (
        "*",
        "pfnProviderDeregisterZombie",
        "int (*pfnProviderDeregisterZombie)(const SUPDRVTRACERREG *pThis, SUPDRVVDTPROVIDERCORE *pCore)",
    ),
    ("SUPDRVVDTPROVIDERCORE", "TracerData", "SUPDRVTRACERDATA TracerData"),
    ("SUPDRVVDTPROVIDERCORE", "pDesc", "const VTGDESCPROVIDER *pDesc"),
    ("SUPDRVVDTPROVIDERCORE", "pHdr", "const VTGOBJHDR *pHdr"),
    ("SUPDRVVDTPROVIDERCORE", "abAlignment", "uint8_t abAlignment[sizeof(void *) - 3]"),
    ("SUPDRVVDTPROVIDERCORE", "paProbeLocsRO", "const VTGPROBELOC *paProbeLocsRO"),
    ("SUPDRVVDTPROVIDERCORE", "pacProbeEnabled", "uint32_t *pacProbeEnabled"),
    ("SUPDRVVDTPROVIDERCORE", "paR0ProbeLocs", "SUPDRVPROBELOC *paR0ProbeLocs"),
    ("SUPDRVVDTPROVIDERCORE", "paR0Probes", "SUPDRVPROBEINFO *paR0Probes"),
    ("VTGOBJHDR", "Uuid", "RTUUID Uuid"),
    ("VTGPROBELOC", "uLine", "uint32_t uLine : 31"),
    ("VTGPROBELOC32", "uLine", "uint32_t uLine : 31"),
    ("VTGPROBELOC64", "uLine", "uint32_t uLine : 31"),
    ("VTGPROBELOC", "fEnabled", "uint32_t fEnabled : 1"),
    ("VTGPROBELOC32", "fEnabled", "uint32_t fEnabled : 1"),
    ("VTGPROBELOC64", "fEnabled", "uint32_t fEnabled : 1"),
    ("VTGPROBELOC", "pProbe", "VTGDESCPROBE *pProbe"),
    ("VTGPROBELOC32", "pszFunction", "uint32_t pszFunction"),
    ("VTGPROBELOC32", "pProbe", "uint32_t pProbe"),
    ("VTGPROBELOC64", "pszFunction", "uint64_t pszFunction"),
    ("VTGPROBELOC64", "pProbe", "uint64_t pProbe"),
];

fn exception(c_struct: &str, path: &str) -> Option<&'static str> {
    let name = path.rsplit('.').next()?;
    let exact = DECLARATIONS.iter().find(|(of, what, _)| *of == c_struct && *what == path);
    let any = || DECLARATIONS.iter().find(|(of, what, _)| *of == "*" && *what == name);
    exact.or_else(any).map(|(_, _, declaration)| *declaration)
}

/// Whether a member has a type of its own, whatever else is known about its bytes.
pub fn is_typed(c_struct: &str, path: &str, field: &Field) -> bool {
    exception(c_struct, path).is_some() || c_struct_of(field.rust_type).is_some()
}

/// The structure that must be declared before one with this member can be.
pub fn embedded(c_struct: &str, path: &str, field: &Field) -> Option<&'static str> {
    match exception(c_struct, path) {
        None => c_struct_of(field.rust_type),
        Some(declaration) => {
            let mut words = declaration.split(' ');
            let (ty, name) = (words.next()?, words.next()?);
            if name.starts_with(['*', '(']) || words.next().is_some_and(|word| word != ":") {
                return None;
            }
            let ty = if ty == "RTLISTANCHOR" { "RTLISTNODE" } else { ty };
            super::layouts().find(|layout| layout.c_name == ty).map(|layout| layout.c_name)
        }
    }
}

fn after_prefix(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()))
}

/// The declaration of a member, without its semicolon.
pub fn declaration(c_struct: &str, path: &str, name: &str, field: &Field) -> String {
    if let Some(declaration) = exception(c_struct, path) {
        return declaration.to_string();
    }
    let (element, count) = match field.rust_type.strip_prefix('[').and_then(|ty| ty.strip_suffix(']')) {
        Some(inner) => {
            inner.split_once("; ").map_or((inner, None), |(element, count)| (element, Some(count)))
        }
        None => (field.rust_type, None),
    };
    let ty = c_struct_of(element).unwrap_or_else(|| scalar(name, element, field.size[0]));
    let space = if ty.ends_with('*') { "" } else { " " };
    count
        .map_or_else(|| std::format!("{ty}{space}{name}"), |count| std::format!("{ty}{space}{name}[{count}]"))
}

fn scalar(name: &str, rust_type: &str, size: usize) -> &'static str {
    match rust_type {
        "usize" | "AtomicUsize" if after_prefix(name, "psz") => "const char *",
        "usize" | "AtomicUsize" if after_prefix(name, "pfn") || name == "pfn" => "PFNRT",
        "usize" | "AtomicUsize" if name.starts_with("pv") || name == "p" || after_prefix(name, "apv") => {
            "void *"
        }
        "usize" | "AtomicUsize" => "uintptr_t",
        "u8" | "AtomicU8" if after_prefix(name, "f") || after_prefix(name, "af") => "bool",
        "u8" if after_prefix(name, "sz") => "char",
        "u8" | "AtomicU8" => "uint8_t",
        "u16" | "AtomicU16" => "uint16_t",
        "u32" | "AtomicU32" => "uint32_t",
        "i32" => "int32_t",
        "u64" | "AtomicU64" => "uint64_t",
        // A type of the crate that only gives bytes a name.
        _ if size == 4 => "uint32_t",
        _ if size == 8 => "uint64_t",
        _ => "uint8_t",
    }
}

/// The name of an IDC request in C.
pub const fn idc_name(request: IdcRequest) -> &'static str {
    match request {
        IdcRequest::Connect => "CONNECT",
        IdcRequest::Disconnect => "DISCONNECT",
        IdcRequest::GetSymbol => "GET_SYMBOL",
        IdcRequest::RegisterFactory => "COMPONENT_REGISTER_FACTORY",
        IdcRequest::DeregisterFactory => "COMPONENT_DEREGISTER_FACTORY",
    }
}
