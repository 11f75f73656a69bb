//! The functions that modules can import, in the order of the catalogue, and what makes them real for a system.

/// Passes the catalogue behind the ten numbers, preceded by `$prefix`, to `$callback!`.
///
/// | entry | meaning |
/// | --- | --- |
/// | `var` | a variable |
/// | `fn` | a function of a family, generic over [`Ring0`](crate::ring0::Ring0) |
/// | `pure` | a function of a family that needs no system |
/// | `variadic` | made by an assembly thunk over the function that takes a `va_list` |
#[doc(hidden)]
#[macro_export]
macro_rules! __ring0_catalogue {
    ([$($callback:tt)*] { $($prefix:tt)* }) => {
        $($callback)*! {
            { $($prefix)* }
            var g_pSUPGlobalInfoPage;
            fn SUPGetGIP = supr0::get_gip() -> usize;
            fn SUPR0ComponentDeregisterFactory = supr0::component_deregister_factory(
                session: *mut SessionView, factory: *mut Factory
            ) -> i32;
            fn SUPR0ComponentQueryFactory = supr0::component_query_factory(
                session: *mut SessionView, name: *const c_char, uuid: *const c_char, interface: *mut *mut c_void
            ) -> i32;
            fn SUPR0ComponentRegisterFactory = supr0::component_register_factory(session: *mut SessionView, factory: *mut Factory) -> i32;
            fn SUPR0ContAlloc = supr0::cont_alloc(
                session: *mut SessionView, pages: u32, kernel: *mut usize, user: *mut usize, phys: *mut u64
            ) -> i32;
            fn SUPR0ContFree = supr0::cont_free(session: *mut SessionView, address: usize) -> i32;
            fn SUPR0EnableVTx = supr0::enable_vtx(enable: CBool) -> i32;
            fn SUPR0SuspendVTxOnCpu = supr0::suspend_vtx_on_cpu() -> bool;
            fn SUPR0ResumeVTxOnCpu = supr0::resume_vtx_on_cpu(suspended: CBool);
            fn SUPR0GetPagingMode = supr0::get_paging_mode() -> u32;
            fn SUPR0LockMem = supr0::lock_mem(session: *mut SessionView, address: usize, pages: u32, phys: *mut u64) -> i32;
            fn SUPR0LowAlloc = supr0::low_alloc(
                session: *mut SessionView, pages: u32, kernel: *mut usize, user: *mut usize, phys: *mut u64
            ) -> i32;
            fn SUPR0LowFree = supr0::low_free(session: *mut SessionView, address: usize) -> i32;
            fn SUPR0MemAlloc = supr0::mem_alloc(session: *mut SessionView, bytes: u32, kernel: *mut usize, user: *mut usize) -> i32;
            fn SUPR0MemFree = supr0::mem_free(session: *mut SessionView, address: usize) -> i32;
            fn SUPR0MemGetPhys = supr0::mem_get_phys(session: *mut SessionView, address: usize, phys: *mut Page) -> i32;
            fn SUPR0ObjAddRef = supr0::obj_add_ref(object: *mut c_void, session: *mut SessionView) -> i32;
            fn SUPR0ObjAddRefEx = supr0::obj_add_ref_ex(object: *mut c_void, session: *mut SessionView, no_blocking: CBool) -> i32;
            fn SUPR0ObjRegister = supr0::obj_register(
                session: *mut SessionView, kind: u32, destructor: Option<Destructor>, user1: *mut c_void, user2: *mut c_void
            ) -> *mut c_void;
            fn SUPR0ObjRelease = supr0::obj_release(object: *mut c_void, session: *mut SessionView) -> i32;
            fn SUPR0ObjVerifyAccess = supr0::obj_verify_access(object: *mut c_void, session: *mut SessionView, name: *const c_char) -> i32;
            fn SUPR0PageAllocEx = supr0::page_alloc_ex(
                session: *mut SessionView, pages: u32, flags: u32, user: *mut usize, kernel: *mut usize, phys: *mut u64
            ) -> i32;
            fn SUPR0PageFree = supr0::page_free(session: *mut SessionView, address: usize) -> i32;
            variadic SUPR0Printf;
            fn SUPR0TracerDeregisterDrv = tracer::deregister_drv(session: *mut SessionView);
            fn SUPR0TracerDeregisterImpl = tracer::deregister_impl(module: *mut c_void, session: *mut SessionView) -> i32;
            fn SUPR0TracerFireProbe = tracer::fire_probe(
                location: *mut c_void, arg0: usize, arg1: usize, arg2: usize, arg3: usize, arg4: usize
            );
            fn SUPR0TracerRegisterDrv = tracer::register_drv(session: *mut SessionView, header: *mut c_void, name: *const c_char) -> i32;
            fn SUPR0TracerRegisterImpl = tracer::register_impl(
                module: *mut c_void, session: *mut SessionView, registration: *const c_void, helpers: *mut *const c_void
            ) -> i32;
            fn SUPR0TracerRegisterModule = tracer::register_module(module: *mut c_void, header: *mut c_void) -> i32;
            fn SUPR0TracerUmodProbeFire = tracer::umod_probe_fire(session: *mut SessionView, context: *mut c_void);
            fn SUPR0UnlockMem = supr0::unlock_mem(session: *mut SessionView, address: usize) -> i32;
            fn SUPSemEventClose = supsem::event_close(session: *mut SessionView, handle: usize) -> i32;
            fn SUPSemEventCreate = supsem::event_create(session: *mut SessionView, out: *mut usize) -> i32;
            fn SUPSemEventGetResolution = supsem::event_get_resolution(session: *mut SessionView) -> u32;
            fn SUPSemEventMultiClose = supsem::event_multi_close(session: *mut SessionView, handle: usize) -> i32;
            fn SUPSemEventMultiCreate = supsem::event_multi_create(session: *mut SessionView, out: *mut usize) -> i32;
            fn SUPSemEventMultiGetResolution = supsem::event_multi_get_resolution(session: *mut SessionView) -> u32;
            fn SUPSemEventMultiReset = supsem::event_multi_reset(session: *mut SessionView, handle: usize) -> i32;
            fn SUPSemEventMultiSignal = supsem::event_multi_signal(session: *mut SessionView, handle: usize) -> i32;
            fn SUPSemEventMultiWait = supsem::event_multi_wait(session: *mut SessionView, handle: usize, millis: u32) -> i32;
            fn SUPSemEventMultiWaitNoResume = supsem::event_multi_wait_no_resume(
                session: *mut SessionView, handle: usize, millis: u32
            ) -> i32;
            fn SUPSemEventMultiWaitNsAbsIntr = supsem::event_multi_wait_ns_abs_intr(
                session: *mut SessionView, handle: usize, deadline: u64
            ) -> i32;
            fn SUPSemEventMultiWaitNsRelIntr = supsem::event_multi_wait_ns_rel_intr(
                session: *mut SessionView, handle: usize, nanos: u64
            ) -> i32;
            fn SUPSemEventSignal = supsem::event_signal(session: *mut SessionView, handle: usize) -> i32;
            fn SUPSemEventWait = supsem::event_wait(session: *mut SessionView, handle: usize, millis: u32) -> i32;
            fn SUPSemEventWaitNoResume = supsem::event_wait_no_resume(session: *mut SessionView, handle: usize, millis: u32) -> i32;
            fn SUPSemEventWaitNsAbsIntr = supsem::event_wait_ns_abs_intr(session: *mut SessionView, handle: usize, deadline: u64) -> i32;
            fn SUPSemEventWaitNsRelIntr = supsem::event_wait_ns_rel_intr(session: *mut SessionView, handle: usize, nanos: u64) -> i32;
            fn RTAssertAreQuiet = assert::assert_are_quiet() -> bool;
            fn RTAssertMayPanic = assert::assert_may_panic() -> bool;
            fn RTAssertMsg1 = assert::assert_msg1(expression: *const c_char, line: u32, file: *const c_char, function: *const c_char);
            fn RTAssertMsg2AddV = assert::assert_msg2_add_v(format: *const c_char, args: VaList);
            fn RTAssertMsg2V = assert::assert_msg2_v(format: *const c_char, args: VaList);
            fn RTAssertSetMayPanic = assert::assert_set_may_panic(may_panic: CBool) -> bool;
            fn RTAssertSetQuiet = assert::assert_set_quiet(quiet: CBool) -> bool;
            pure RTCrc32 = crc::crc32(data: *const c_void, bytes: usize) -> u32;
            pure RTCrc32Finish = crc::crc32_finish(crc: u32) -> u32;
            pure RTCrc32Process = crc::crc32_process(crc: u32, data: *const c_void, bytes: usize) -> u32;
            pure RTCrc32Start = crc::crc32_start() -> u32;
            fn RTErrConvertFromErrno = errno::from_errno(native: u32) -> i32;
            fn RTErrConvertToErrno = errno::to_errno(status: i32) -> i32;
            fn RTHandleTableAllocWithCtx = handle_table::alloc_with_ctx(
                table: usize, object: *mut c_void, context: *mut c_void, out: *mut u32
            ) -> i32;
            fn RTHandleTableCreate = handle_table::create(out: *mut usize) -> i32;
            fn RTHandleTableCreateEx = handle_table::create_ex(
                out: *mut usize, flags: u32, base: u32, max: u32, retain: Option<TableRetain>, user: *mut c_void
            ) -> i32;
            fn RTHandleTableDestroy = handle_table::destroy(table: usize, delete: Option<TableDelete>, user: *mut c_void) -> i32;
            fn RTHandleTableFreeWithCtx = handle_table::free_with_ctx(table: usize, handle: u32, context: *mut c_void) -> *mut c_void;
            fn RTHandleTableLookupWithCtx = handle_table::lookup_with_ctx(table: usize, handle: u32, context: *mut c_void) -> *mut c_void;
            fn RTLogDefaultInstance = log::default_instance() -> *mut c_void;
            fn RTLogLoggerExV = log::logger_ex_v(logger: *mut c_void, flags: u32, group: u32, format: *const c_char, args: VaList);
            fn RTLogPrintfV = log::printf_v(format: *const c_char, args: VaList);
            fn RTLogRelDefaultInstance = log::rel_default_instance() -> *mut c_void;
            fn RTLogSetDefaultInstanceThread = log::set_default_instance_thread(logger: *mut c_void, key: usize) -> i32;
            fn RTMemAllocExTag = heap::alloc_ex_tag(
                bytes: usize, align: usize, flags: u32, tag: *const c_char, out: *mut *mut c_void
            ) -> i32;
            fn RTMemAllocTag = heap::alloc_tag(bytes: usize, tag: *const c_char) -> *mut c_void;
            fn RTMemAllocVarTag = heap::alloc_var_tag(bytes: usize, tag: *const c_char) -> *mut c_void;
            fn RTMemAllocZTag = heap::alloc_z_tag(bytes: usize, tag: *const c_char) -> *mut c_void;
            fn RTMemAllocZVarTag = heap::alloc_z_var_tag(bytes: usize, tag: *const c_char) -> *mut c_void;
            fn RTMemDupExTag = heap::dup_ex_tag(source: *const c_void, bytes: usize, extra: usize, tag: *const c_char) -> *mut c_void;
            fn RTMemDupTag = heap::dup_tag(source: *const c_void, bytes: usize, tag: *const c_char) -> *mut c_void;
            fn RTMemFree = heap::free(data: *mut c_void);
            fn RTMemFreeEx = heap::free_ex(data: *mut c_void, bytes: usize);
            fn RTMemReallocTag = heap::realloc_tag(old: *mut c_void, bytes: usize, tag: *const c_char) -> *mut c_void;
            fn RTMpCpuId = mp::cpu_id() -> u32;
            fn RTMpCpuIdFromSetIndex = mp::cpu_id_from_set_index(index: i32) -> u32;
            fn RTMpCpuIdToSetIndex = mp::cpu_id_to_set_index(cpu_id: u32) -> i32;
            fn RTMpGetArraySize = mp::get_array_size() -> u32;
            fn RTMpGetCount = mp::get_count() -> u32;
            fn RTMpGetMaxCpuId = mp::get_max_cpu_id() -> u32;
            fn RTMpGetOnlineCount = mp::get_online_count() -> u32;
            fn RTMpGetOnlineSet = mp::get_online_set(set: *mut CpuSet) -> *mut CpuSet;
            fn RTMpGetSet = mp::get_set(set: *mut CpuSet) -> *mut CpuSet;
            fn RTMpIsCpuOnline = mp::is_cpu_online(cpu_id: u32) -> bool;
            fn RTMpIsCpuPossible = mp::is_cpu_possible(cpu_id: u32) -> bool;
            fn RTMpIsCpuWorkPending = mp::is_cpu_work_pending() -> bool;
            fn RTMpNotificationDeregister = notify::mp_notification_deregister(callback: Option<MpNotification>, user: *mut c_void) -> i32;
            fn RTMpNotificationRegister = notify::mp_notification_register(callback: Option<MpNotification>, user: *mut c_void) -> i32;
            fn RTMpOnAll = mp::on_all(worker: Option<CpuWorker>, user1: *mut c_void, user2: *mut c_void) -> i32;
            fn RTMpOnOthers = mp::on_others(worker: Option<CpuWorker>, user1: *mut c_void, user2: *mut c_void) -> i32;
            fn RTMpOnSpecific = mp::on_specific(cpu_id: u32, worker: Option<CpuWorker>, user1: *mut c_void, user2: *mut c_void) -> i32;
            fn RTMpPokeCpu = mp::poke_cpu(cpu_id: u32) -> i32;
            pure RTNetIPv4AddDataChecksum = net::ipv4_add_data_checksum(data: *const c_void, bytes: usize, sum: u32, odd: *mut bool) -> u32;
            pure RTNetIPv4AddTCPChecksum = net::ipv4_add_tcp_checksum(tcp: *const u8, sum: u32) -> u32;
            pure RTNetIPv4AddUDPChecksum = net::ipv4_add_udp_checksum(udp: *const u8, sum: u32) -> u32;
            pure RTNetIPv4FinalizeChecksum = net::ipv4_finalize_checksum(sum: u32) -> u16;
            pure RTNetIPv4HdrChecksum = net::ipv4_hdr_checksum(ip: *const u8) -> u16;
            pure RTNetIPv4IsDHCPValid = net::ipv4_is_dhcp_valid(
                udp: *const u8, dhcp: *const u8, bytes: usize, message_type: *mut u8
            ) -> bool;
            pure RTNetIPv4IsHdrValid = net::ipv4_is_hdr_valid(ip: *const u8, header_max: usize, packet_max: usize, checksum: CBool) -> bool;
            pure RTNetIPv4IsTCPSizeValid = net::ipv4_is_tcp_size_valid(
                ip: *const u8, tcp: *const u8, header_max: usize, packet_max: usize
            ) -> bool;
            pure RTNetIPv4IsTCPValid = net::ipv4_is_tcp_valid(
                ip: *const u8, tcp: *const u8, header_max: usize, data: *const c_void, packet_max: usize, checksum: CBool
            ) -> bool;
            pure RTNetIPv4IsUDPSizeValid = net::ipv4_is_udp_size_valid(ip: *const u8, udp: *const u8, packet_max: usize) -> bool;
            pure RTNetIPv4IsUDPValid = net::ipv4_is_udp_valid(
                ip: *const u8, udp: *const u8, data: *const c_void, packet_max: usize, checksum: CBool
            ) -> bool;
            pure RTNetIPv4PseudoChecksum = net::ipv4_pseudo_checksum(ip: *const u8) -> u32;
            pure RTNetIPv4PseudoChecksumBits = net::ipv4_pseudo_checksum_bits(
                source: u32, destination: u32, protocol: u8, bytes: u16
            ) -> u32;
            pure RTNetIPv4TCPChecksum = net::ipv4_tcp_checksum(ip: *const u8, tcp: *const u8, data: *const c_void) -> u16;
            pure RTNetIPv4UDPChecksum = net::ipv4_udp_checksum(ip: *const u8, udp: *const u8, data: *const c_void) -> u16;
            pure RTNetIPv6PseudoChecksum = net::ipv6_pseudo_checksum(ip: *const u8) -> u32;
            pure RTNetIPv6PseudoChecksumBits = net::ipv6_pseudo_checksum_bits(
                source: *const u8, destination: *const u8, protocol: u8, bytes: u16
            ) -> u32;
            pure RTNetIPv6PseudoChecksumEx = net::ipv6_pseudo_checksum_ex(ip: *const u8, protocol: u8, bytes: u16) -> u32;
            pure RTNetTCPChecksum = net::tcp_checksum(sum: u32, tcp: *const u8, data: *const c_void, bytes: usize) -> u16;
            pure RTNetUDPChecksum = net::udp_checksum(sum: u32, udp: *const u8) -> u16;
            fn RTPowerNotificationDeregister = notify::power_notification_deregister(
                callback: Option<PowerNotification>, user: *mut c_void
            ) -> i32;
            fn RTPowerNotificationRegister = notify::power_notification_register(
                callback: Option<PowerNotification>, user: *mut c_void
            ) -> i32;
            fn RTProcSelf = process::proc_self() -> u32;
            fn RTR0AssertPanicSystem = assert::r0_assert_panic_system();
            fn RTR0MemAreKrnlAndUsrDifferent = access::are_krnl_and_usr_different() -> bool;
            fn RTR0MemKernelIsValidAddr = access::kernel_is_valid_addr(data: *mut c_void) -> bool;
            fn RTR0MemKernelCopyFrom = access::kernel_copy_from(to: *mut c_void, source: *const c_void, bytes: usize) -> i32;
            fn RTR0MemKernelCopyTo = access::kernel_copy_to(to: *mut c_void, source: *const c_void, bytes: usize) -> i32;
            fn RTR0MemObjAddress = memobj::address(object: usize) -> *mut c_void;
            fn RTR0MemObjAddressR3 = memobj::address_r3(object: usize) -> usize;
            fn RTR0MemObjAllocContTag = memobj::alloc_cont_tag(out: *mut usize, bytes: usize, executable: CBool, tag: *const c_char) -> i32;
            fn RTR0MemObjAllocLowTag = memobj::alloc_low_tag(out: *mut usize, bytes: usize, executable: CBool, tag: *const c_char) -> i32;
            fn RTR0MemObjAllocPageTag = memobj::alloc_page_tag(out: *mut usize, bytes: usize, executable: CBool, tag: *const c_char) -> i32;
            fn RTR0MemObjAllocPhysExTag = memobj::alloc_phys_ex_tag(
                out: *mut usize, bytes: usize, highest: u64, align: usize, tag: *const c_char
            ) -> i32;
            fn RTR0MemObjAllocPhysNCTag = memobj::alloc_phys_nc_tag(out: *mut usize, bytes: usize, highest: u64, tag: *const c_char) -> i32;
            fn RTR0MemObjAllocPhysTag = memobj::alloc_phys_tag(out: *mut usize, bytes: usize, highest: u64, tag: *const c_char) -> i32;
            fn RTR0MemObjEnterPhysTag = memobj::enter_phys_tag(
                out: *mut usize, phys: u64, bytes: usize, cache: u32, tag: *const c_char
            ) -> i32;
            fn RTR0MemObjFree = memobj::free(object: usize, with_mappings: CBool) -> i32;
            fn RTR0MemObjGetPagePhysAddr = memobj::get_page_phys_addr(object: usize, index: usize) -> u64;
            fn RTR0MemObjIsMapping = memobj::is_mapping(object: usize) -> bool;
            fn RTR0MemObjLockUserTag = memobj::lock_user_tag(
                out: *mut usize, address: usize, bytes: usize, access: u32, process: usize, tag: *const c_char
            ) -> i32;
            fn RTR0MemObjMapKernelExTag = memobj::map_kernel_ex_tag(
                out: *mut usize, parent: usize, fixed: *mut c_void, align: usize, prot: u32, offset: usize, bytes: usize,
                tag: *const c_char
            ) -> i32;
            fn RTR0MemObjMapKernelTag = memobj::map_kernel_tag(
                out: *mut usize, parent: usize, fixed: *mut c_void, align: usize, prot: u32, tag: *const c_char
            ) -> i32;
            fn RTR0MemObjMapUserTag = memobj::map_user_tag(
                out: *mut usize, parent: usize, fixed: usize, align: usize, prot: u32, process: usize, tag: *const c_char
            ) -> i32;
            fn RTR0MemObjProtect = memobj::protect(object: usize, offset: usize, bytes: usize, prot: u32) -> i32;
            fn RTR0MemObjSize = memobj::size(object: usize) -> usize;
            fn RTR0MemUserCopyFrom = access::user_copy_from(to: *mut c_void, from: usize, bytes: usize) -> i32;
            fn RTR0MemUserCopyTo = access::user_copy_to(to: usize, source: *const c_void, bytes: usize) -> i32;
            fn RTR0MemUserIsValidAddr = access::user_is_valid_addr(address: usize) -> bool;
            fn RTR0ProcHandleSelf = process::r0_proc_handle_self() -> usize;
            fn RTSemEventCreate = event::event_create(out: *mut usize) -> i32;
            fn RTSemEventDestroy = event::event_destroy(event: usize) -> i32;
            fn RTSemEventGetResolution = event::event_get_resolution() -> u32;
            fn RTSemEventMultiCreate = event::event_multi_create(out: *mut usize) -> i32;
            fn RTSemEventMultiDestroy = event::event_multi_destroy(event: usize) -> i32;
            fn RTSemEventMultiGetResolution = event::event_multi_get_resolution() -> u32;
            fn RTSemEventMultiReset = event::event_multi_reset(event: usize) -> i32;
            fn RTSemEventMultiSignal = event::event_multi_signal(event: usize) -> i32;
            fn RTSemEventMultiWait = event::event_multi_wait(event: usize, millis: u32) -> i32;
            fn RTSemEventMultiWaitEx = event::event_multi_wait_ex(event: usize, flags: u32, timeout: u64) -> i32;
            fn RTSemEventMultiWaitExDebug = event::event_multi_wait_ex_debug(
                event: usize, flags: u32, timeout: u64, id: usize, file: *const c_char, line: u32, function: *const c_char
            ) -> i32;
            fn RTSemEventMultiWaitNoResume = event::event_multi_wait_no_resume(event: usize, millis: u32) -> i32;
            fn RTSemEventSignal = event::event_signal(event: usize) -> i32;
            fn RTSemEventWait = event::event_wait(event: usize, millis: u32) -> i32;
            fn RTSemEventWaitEx = event::event_wait_ex(event: usize, flags: u32, timeout: u64) -> i32;
            fn RTSemEventWaitExDebug = event::event_wait_ex_debug(
                event: usize, flags: u32, timeout: u64, id: usize, file: *const c_char, line: u32, function: *const c_char
            ) -> i32;
            fn RTSemEventWaitNoResume = event::event_wait_no_resume(event: usize, millis: u32) -> i32;
            fn RTSemFastMutexCreate = fast_mutex::create(out: *mut usize) -> i32;
            fn RTSemFastMutexDestroy = fast_mutex::destroy(mutex: usize) -> i32;
            fn RTSemFastMutexRelease = fast_mutex::release(mutex: usize) -> i32;
            fn RTSemFastMutexRequest = fast_mutex::request(mutex: usize) -> i32;
            fn RTSemMutexCreate = mutex::create(out: *mut usize) -> i32;
            fn RTSemMutexDestroy = mutex::destroy(mutex: usize) -> i32;
            fn RTSemMutexRelease = mutex::release(mutex: usize) -> i32;
            fn RTSemMutexRequest = mutex::request(mutex: usize, millis: u32) -> i32;
            fn RTSemMutexRequestDebug = mutex::request_debug(
                mutex: usize, millis: u32, id: usize, file: *const c_char, line: u32, function: *const c_char
            ) -> i32;
            fn RTSemMutexRequestNoResume = mutex::request_no_resume(mutex: usize, millis: u32) -> i32;
            fn RTSemMutexRequestNoResumeDebug = mutex::request_no_resume_debug(
                mutex: usize, millis: u32, id: usize, file: *const c_char, line: u32, function: *const c_char
            ) -> i32;
            fn RTSpinlockAcquire = spinlock::acquire(lock: usize);
            fn RTSpinlockCreate = spinlock::create(out: *mut usize, flags: u32, name: *const c_char) -> i32;
            fn RTSpinlockDestroy = spinlock::destroy(lock: usize) -> i32;
            fn RTSpinlockRelease = spinlock::release(lock: usize);
            fn RTSpinlockReleaseNoInts = spinlock::release_no_ints(lock: usize);
            pure RTStrCopy = string::copy(to: *mut c_char, bytes: usize, from: *const c_char) -> i32;
            fn RTStrDupTag = string::dup_tag(text: *const c_char, tag: *const c_char) -> *mut c_char;
            variadic RTStrFormat;
            pure RTStrFormatNumber = format::format_number(
                to: *mut c_char, value: u64, base: u32, width: i32, precision: i32, flags: u32
            ) -> i32;
            fn RTStrFormatTypeDeregister = format::format_type_deregister(name: *const c_char) -> i32;
            fn RTStrFormatTypeRegister = format::format_type_register(
                name: *const c_char, handler: Option<StrFormatType>, user: *mut c_void
            ) -> i32;
            fn RTStrFormatTypeSetUser = format::format_type_set_user(name: *const c_char, user: *mut c_void) -> i32;
            fn RTStrFormatV = format::format_v(
                output: Option<StrOutput>, output_arg: *mut c_void, extension: Option<StrFormatExtension>, extension_arg: *mut c_void,
                format: *const c_char, args: VaList
            ) -> usize;
            fn RTStrFree = string::free(text: *mut c_char);
            pure RTStrNCmp = string::n_cmp(a: *const c_char, b: *const c_char, max: usize) -> i32;
            variadic RTStrPrintf;
            variadic RTStrPrintfEx;
            fn RTStrPrintfExV = format::printf_ex_v(
                extension: Option<StrFormatExtension>, extension_arg: *mut c_void, buffer: *mut c_char, bytes: usize,
                format: *const c_char, args: VaList
            ) -> usize;
            fn RTStrPrintfV = format::printf_v(buffer: *mut c_char, bytes: usize, format: *const c_char, args: VaList) -> usize;
            fn RTThreadCreate = thread::create(
                out: *mut usize, main: Option<ThreadMain>, user: *mut c_void, stack_bytes: usize, kind: u32, flags: u32,
                name: *const c_char
            ) -> i32;
            fn RTThreadCtxHooksAreRegistered = thread_ctx::are_registered(hooks: usize) -> bool;
            fn RTThreadCtxHooksCreate = thread_ctx::create(out: *mut usize) -> i32;
            fn RTThreadCtxHooksDeregister = thread_ctx::deregister(hooks: usize) -> i32;
            fn RTThreadCtxHooksRegister = thread_ctx::register(hooks: usize, callback: Option<ThreadCtxHook>, user: *mut c_void) -> i32;
            fn RTThreadCtxHooksRelease = thread_ctx::release(hooks: usize) -> u32;
            fn RTThreadCtxHooksRetain = thread_ctx::retain(hooks: usize) -> u32;
            fn RTThreadGetName = thread::get_name(thread: usize) -> *const c_char;
            fn RTThreadGetNative = thread::get_native(thread: usize) -> usize;
            fn RTThreadGetType = thread::get_type(thread: usize) -> u32;
            fn RTThreadIsInInterrupt = sched::is_in_interrupt(thread: usize) -> bool;
            fn RTThreadNativeSelf = sched::native_self() -> usize;
            fn RTThreadPreemptDisable = sched::preempt_disable(state: *mut PreemptStateView);
            fn RTThreadPreemptIsEnabled = sched::preempt_is_enabled(thread: usize) -> bool;
            fn RTThreadPreemptIsPending = sched::preempt_is_pending(thread: usize) -> bool;
            fn RTThreadPreemptIsPendingTrusty = sched::preempt_is_pending_trusty() -> bool;
            fn RTThreadPreemptIsPossible = sched::preempt_is_possible() -> bool;
            fn RTThreadPreemptRestore = sched::preempt_restore(state: *mut PreemptStateView);
            fn RTThreadSelf = thread::self_handle() -> usize;
            fn RTThreadSelfName = thread::self_name() -> *const c_char;
            fn RTThreadSleep = sched::sleep(millis: u32) -> i32;
            fn RTThreadUserReset = thread::user_reset(thread: usize) -> i32;
            fn RTThreadUserSignal = thread::user_signal(thread: usize) -> i32;
            fn RTThreadUserWait = thread::user_wait(thread: usize, millis: u32) -> i32;
            fn RTThreadUserWaitNoResume = thread::user_wait_no_resume(thread: usize, millis: u32) -> i32;
            fn RTThreadWait = thread::wait(thread: usize, millis: u32, result: *mut i32) -> i32;
            fn RTThreadWaitNoResume = thread::wait_no_resume(thread: usize, millis: u32, result: *mut i32) -> i32;
            fn RTThreadYield = sched::yield_now() -> bool;
            fn RTTimeMilliTS = time::milli_ts() -> u64;
            fn RTTimeNanoTS = time::nano_ts() -> u64;
            fn RTTimeNow = time::now(time: *mut i64) -> *mut i64;
            fn RTTimerCanDoHighResolution = timer::can_do_high_resolution() -> bool;
            fn RTTimerChangeInterval = timer::change_interval(timer: usize, interval_ns: u64) -> i32;
            fn RTTimerCreate = timer::create(out: *mut usize, interval_ms: u32, callback: Option<TimerMain>, user: *mut c_void) -> i32;
            fn RTTimerCreateEx = timer::create_ex(
                out: *mut usize, interval_ns: u64, flags: u32, callback: Option<TimerMain>, user: *mut c_void
            ) -> i32;
            fn RTTimerDestroy = timer::destroy(timer: usize) -> i32;
            fn RTTimerGetSystemGranularity = timer::get_system_granularity() -> u32;
            fn RTTimerReleaseSystemGranularity = timer::release_system_granularity(granted: u32) -> i32;
            fn RTTimerRequestSystemGranularity = timer::request_system_granularity(wanted: u32, granted: *mut u32) -> i32;
            fn RTTimerStart = timer::start(timer: usize, first_ns: u64) -> i32;
            fn RTTimerStop = timer::stop(timer: usize) -> i32;
            fn RTTimeSystemMilliTS = time::system_milli_ts() -> u64;
            fn RTTimeSystemNanoTS = time::system_nano_ts() -> u64;
            pure RTUuidCompare = uuid::compare(a: *const Uuid, b: *const Uuid) -> i32;
            pure RTUuidCompareStr = uuid::compare_str(a: *const Uuid, text: *const c_char) -> i32;
            pure RTUuidFromStr = uuid::from_str(uuid: *mut Uuid, text: *const c_char) -> i32;        }
    };
}

/// Defines all entries of the catalogue.
#[doc(hidden)]
#[macro_export]
macro_rules! __ring0_define {
    (
        $prefix:tt
        $($kind:ident $name:ident $(= $module:ident :: $function:ident ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?)?;)*
    ) => {
        $($crate::__ring0_define_one! { $prefix $kind $name $(= $module :: $function ($($arg: $ty),*) $(-> $ret)?)?; })*

        /// What modules can import, behind the numbers that the core knows itself.
        pub static EXPORTS: &[$crate::ring0::Export] =
            &[$($crate::ring0::Export::new(stringify!($name), $crate::__ring0_address!($kind $name))),*];
    };
}

/// Defines one entry of the catalogue.
#[doc(hidden)]
#[macro_export]
macro_rules! __ring0_define_one {
    ({ $ring0:ident [$($export:tt)*] } var $name:ident;) => {
        $($export)*
        pub(super) static $name: ::core::sync::atomic::AtomicUsize = ::core::sync::atomic::AtomicUsize::new(0);
    };
    // Written out by `__ring0_probe_fire!`.
    ({ $($prefix:tt)* } fn SUPR0TracerFireProbe = $($rest:tt)*) => {};
    (
        { $ring0:ident [$($export:tt)*] }
        fn $name:ident = $module:ident :: $function:ident ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;
    ) => {
        $($export)*
        unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { $crate::ring0::$module::$function::<$ring0>($($arg),*) }
        }
    };
    (
        { $ring0:ident [$($export:tt)*] }
        pure $name:ident = $module:ident :: $function:ident ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;
    ) => {
        $($export)*
        unsafe extern "C" fn $name($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the caller keeps the contract of the C function.
            unsafe { $crate::ring0::$module::$function($($arg),*) }
        }
    };
    // Written out in `ring0_exports!`.
    ({ $($prefix:tt)* } variadic $name:ident;) => {};
}

/// The address of an entry of the catalogue.
#[doc(hidden)]
#[macro_export]
macro_rules! __ring0_address {
    (var $name:ident) => {
        (&raw const $name).cast::<()>()
    };
    ($kind:ident $name:ident) => {
        $name as *const ()
    };
}

/// Lists the entries of the catalogue with their C signatures, for tests.
#[cfg(any(test, feature = "mock"))]
macro_rules! list {
    (
        $prefix:tt
        $($kind:ident $name:ident $(= $module:ident :: $function:ident ($($arg:ident: $ty:ty),*) $(-> $ret:ty)?)?;)*
    ) => {
        &[$(Signature {
            name: stringify!($name),
            kind: stringify!($kind),
            arguments: &[$($(stringify!($ty)),*)?],
            result: concat!($($(stringify!($ret))?)?),
        }),*]
    };
}

/// What Rust says that a function of the catalogue takes and returns; types as they are written here.
#[cfg(any(test, feature = "mock"))]
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Signature {
    pub name: &'static str,
    pub kind: &'static str,
    pub arguments: &'static [&'static str],
    pub result: &'static str,
}

/// The catalogue behind the ten numbers.
#[cfg(any(test, feature = "mock"))]
pub static SIGNATURES: &[Signature] = crate::__ring0_catalogue!([list] {});

/// Makes the ring-0 runtime for one system, in the module where it is invoked: `ring0_exports!(Linux, Linux);`
///
/// The second argument is an expression for the system's value. The macro defines
///
/// - the functions of the catalogue under their C names, exported for the linker (`ring0_exports!(Os, value, private)`: not exported),
/// - `EXPORTS`, the table that [`OsPolicy::ring0_exports`](crate::os::OsPolicy::ring0_exports) returns,
/// - `Runtime`, the [`Ring0`](crate::ring0::Ring0) type of this instantiation, with which the shim tells the runtime what happens: see
///   [`ring0::events`](crate::ring0::events).
#[macro_export]
macro_rules! ring0_exports {
    ($os:ty, $value:expr) => {
        $crate::ring0_exports!(@ $os, $value, [#[unsafe(no_mangle)]]);
    };
    ($os:ty, $value:expr, private) => {
        $crate::ring0_exports!(@ $os, $value, []);
    };
    (@ $os:ty, $value:expr, $export:tt) => {
        #[allow(unused_imports, reason = "not every type of the catalogue is needed everywhere")]
        use $crate::ring0::types::*;

        /// This instantiation of the ring-0 runtime.
        #[derive(Clone, Copy, Debug)]
        pub struct Runtime;

        static STATE: $crate::ring0::State<$os> = $crate::ring0::State::new();

        impl $crate::ring0::Ring0 for Runtime {
            type Os = $os;

            fn os() -> $os {
                $value
            }

            fn state() -> &'static $crate::ring0::State<$os> {
                &STATE
            }

            fn gip() -> &'static ::core::sync::atomic::AtomicUsize {
                &functions::g_pSUPGlobalInfoPage
            }

            fn tracer_globals() -> $crate::tracer::TracerGlobals {
                functions::TRACER_GLOBALS
            }
        }

        #[allow(non_snake_case, non_upper_case_globals, reason = "C's names")]
        mod functions {
            use super::*;

            unsafe extern "C" fn supr0_printf_v(format: *const c_char, args: VaList) -> i32 {
                // SAFETY: the caller keeps the contract of the C function.
                unsafe { $crate::ring0::format::supr0_printf_v::<Runtime>(format, args) }
            }

            $crate::__ring0_thunk! { $export SUPR0Printf 1 supr0_printf_v }
            $crate::__ring0_thunk! { $export RTStrPrintf 3 RTStrPrintfV }
            $crate::__ring0_thunk! { $export RTStrPrintfEx 5 RTStrPrintfExV }
            $crate::__ring0_thunk! { $export RTStrFormat 5 RTStrFormatV }
            $crate::__ring0_probe_fire! { $export }
            $crate::__ring0_catalogue!([$crate::__ring0_define] { Runtime $export });
        }
        pub use functions::EXPORTS;
    };
}
