/* The types of QMP's commands and events, in the language of qmp.h and by QEMU's names: what this machine has of them.
 */
#include <stddef.h>

#include "vm/qmp.h"

/* clang-format off */
const struct qmp_type qmp_types[] = {
	/* what the machine is */
	{ "StatusInfo", "running:bool singlestep:bool status:RunState" },
	{ "RunState", "=prelaunch running paused debug io-error finish-migrate postmigrate shutdown "
	  "guest-panicked watchdog" },
	{ "NameInfo", "?name:str" },
	{ "UuidInfo", "UUID:str" },
	{ "KvmInfo", "enabled:bool present:bool" },
	{ "TargetInfo", "arch:SysEmuTarget" },
	{ "SysEmuTarget", "=aarch64 x86_64" },
	{ "VersionInfo", "qemu:VersionTriple package:str" },
	{ "VersionTriple", "major:int minor:int micro:int" },
	{ "CpuInfoFast", "cpu-index:int qom-path:str thread-id:int ?props:CpuInstanceProperties target:SysEmuTarget" },
	{ "CpuInstanceProperties", "?socket-id:int ?core-id:int ?thread-id:int" },
	{ "CpuDefinitionInfo", "name:str ?migration-safe:bool static:bool ?unavailable-features:[str] typename:str "
	  "?alias-of:str deprecated:bool" },
	{ "MachineInfo", "name:str ?alias:str ?is-default:bool cpu-max:int hotpluggable-cpus:bool "
	  "numa-mem-supported:bool deprecated:bool ?default-cpu-type:str" },
	{ "CurrentMachineParams", "wakeup-suspend-support:bool" },
	{ "MemoryInfo", "base-memory:size ?plugged-memory:size" },
	{ "IOThreadInfo", "id:str thread-id:int poll-max-ns:int poll-grow:int poll-shrink:int aio-max-batch:int" },
	{ "ChardevInfo", "label:str filename:str frontend-open:bool" },
	{ "BalloonInfo", "actual:int" },
	/* keys */
	{ "KeyValue", "|type:KeyValueKind number:IntWrapper qcode:QKeyCodeWrapper" },
	{ "KeyValueKind", "=number qcode" },
	{ "IntWrapper", "data:int" },
	{ "QKeyCodeWrapper", "data:QKeyCode" },
	{ "MouseInfo", "name:str index:int current:bool absolute:bool" },
	/* migration */
	{ "MigrationInfo", "?status:MigrationStatus ?ram:MigrationStats ?total-time:int ?error-desc:str" },
	{ "MigrationStatus", "=none setup cancelling cancelled active completed failed" },
	{ "MigrationStats", "transferred:int remaining:int total:int page-size:int" },
	/* PCI */
	{ "PciInfo", "bus:int devices:[PciDeviceInfo]" },
	{ "PciDeviceInfo", "bus:int slot:int function:int class_info:PciDeviceClass id:PciDeviceId ?irq:int irq_pin:int "
	  "qdev_id:str regions:[PciMemoryRegion]" },
	{ "PciDeviceClass", "?desc:str class:int" },
	{ "PciDeviceId", "device:int vendor:int ?subsystem:int ?subsystem-vendor:int" },
	{ "PciMemoryRegion", "bar:int type:str address:int size:int ?prefetch:bool ?mem_type_64:bool" },
	/* disks */
	{ "BlockInfo", "device:str ?qdev:str type:str removable:bool locked:bool ?inserted:BlockDeviceInfo ?tray_open:bool "
	  "?io-status:BlockDeviceIoStatus" },
	{ "BlockDeviceIoStatus", "=ok failed nospace" },
	{ "BlockDeviceInfo", "file:str ?node-name:str ro:bool drv:str ?backing_file:str backing_file_depth:int "
	  "encrypted:bool detect_zeroes:BlockdevDetectZeroesOptions bps:int bps_rd:int bps_wr:int iops:int iops_rd:int "
	  "iops_wr:int image:ImageInfo cache:BlockdevCacheInfo write_threshold:int" },
	{ "BlockdevDetectZeroesOptions", "=off on unmap" },
	{ "BlockdevCacheInfo", "writeback:bool direct:bool no-flush:bool" },
	{ "ImageInfo", "filename:str format:str ?dirty-flag:bool ?actual-size:int virtual-size:int" },
	{ "BlockStats", "?device:str ?qdev:str ?node-name:str stats:BlockDeviceStats" },
	{ "BlockDeviceStats",
	  "rd_operations:int wr_operations:int flush_operations:int unmap_operations:int rd_bytes:int wr_bytes:int "
	  "unmap_bytes:int rd_total_time_ns:int wr_total_time_ns:int flush_total_time_ns:int unmap_total_time_ns:int "
	  "wr_highest_offset:int rd_merged:int wr_merged:int unmap_merged:int failed_rd_operations:int "
	  "failed_wr_operations:int failed_flush_operations:int failed_unmap_operations:int invalid_rd_operations:int "
	  "invalid_wr_operations:int invalid_flush_operations:int invalid_unmap_operations:int account_invalid:bool "
	  "account_failed:bool timed_stats:[any]" },
	{ "BlockdevDriver", "=file host_device raw" },
	{ "BlockdevChangeReadOnlyMode", "=retain read-only read-write" },
	{ "IoOperationType", "=read write" },
	{ "BlockErrorAction", "=ignore report stop" },
	/* descriptors */
	{ "AddfdInfo", "fdset-id:int fd:int" },
	{ "FdsetInfo", "fdset-id:int fds:[FdsetFdInfo]" },
	{ "FdsetFdInfo", "fd:int ?opaque:str" },
	/* the protocol */
	{ "QMPCapability", "=oob" },
	{ "CommandInfo", "name:str" },
	{ "SchemaInfo", "name:str |meta-type:SchemaMetaType builtin:SchemaInfoBuiltin enum:SchemaInfoEnum "
	  "array:SchemaInfoArray object:SchemaInfoObject command:SchemaInfoCommand event:SchemaInfoEvent" },
	{ "SchemaMetaType", "=builtin enum array object command event" },
	{ "SchemaInfoBuiltin", "json-type:JSONType" },
	{ "JSONType", "=string number int boolean null object array value" },
	{ "SchemaInfoEnum", "members:[SchemaInfoEnumMember] values:[str]" },
	{ "SchemaInfoEnumMember", "name:str" },
	{ "SchemaInfoArray", "element-type:str" },
	{ "SchemaInfoObject", "members:[SchemaInfoObjectMember] ?tag:str ?variants:[SchemaInfoObjectVariant]" },
	{ "SchemaInfoObjectMember", "name:str type:str ?default:any" },
	{ "SchemaInfoObjectVariant", "case:str type:str" },
	{ "SchemaInfoCommand", "arg-type:str ret-type:str ?allow-oob:bool" },
	{ "SchemaInfoEvent", "arg-type:str" },
	/* why it stops */
	{ "ShutdownCause", "=host-error host-qmp-quit host-qmp-system-reset host-signal host-ui guest-shutdown guest-reset "
	  "guest-panic" },
	{ "GuestPanicAction", "=pause poweroff run" },
	{ "WatchdogAction", "=reset poweroff pause none inject-nmi" },
	{ 0 },
};

const struct qmp_type qmp_events[] = {
	{ "BALLOON_CHANGE", "actual:int" },
	{ "BLOCK_IO_ERROR", "device:str ?node-name:str operation:IoOperationType action:BlockErrorAction ?nospace:bool "
	  "reason:str" },
	{ "DEVICE_TRAY_MOVED", "device:str id:str tray-open:bool" },
	{ "GUEST_CRASHLOADED", "action:GuestPanicAction" },
	{ "GUEST_PANICKED", "action:GuestPanicAction" },
	{ "POWERDOWN", "" },
	{ "RESET", "guest:bool reason:ShutdownCause" },
	{ "RESUME", "" },
	{ "RTC_CHANGE", "offset:int qom-path:str" },
	{ "SHUTDOWN", "guest:bool reason:ShutdownCause" },
	{ "STOP", "" },
	{ "WATCHDOG", "action:WatchdogAction" },
	{ 0 },
};
/* clang-format on */
