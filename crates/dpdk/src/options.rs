//! How EAL is to be started, checked, and written as DPDK's arguments.

use std::fs;

use crate::Error;
use crate::device;

/// Whether DPDK's memory is to be on huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HugePages {
    /// On huge pages if enough of them are free.
    #[default]
    Auto,
    /// On huge pages, or not at all.
    Required,
    /// On ordinary pages.
    Off,
}

/// How EAL is to be started.
#[derive(Clone, Debug)]
pub struct EalOptions {
    /// CPUs that the main thread may use; without any, all that no worker uses.
    pub main_cpus: Vec<u16>,
    /// One worker lcore for each CPU, in this order; the main lcore is 0, they are 1, 2, …
    pub worker_cpus: Vec<u16>,
    /// DPDK's own memory, in MiB: mempools and rings.
    pub memory_mib: u32,
    /// Huge pages.
    pub huge_pages: HugePages,
    /// DPDK's file prefix; `dpnat-<pid>` if not given.
    pub file_prefix: Option<String>,
    /// PCI addresses (with arguments, if any) and device strings, made in this order.
    pub devices: Vec<String>,
    /// More arguments for `rte_eal_init`.
    pub extra_args: Vec<String>,
}

impl Default for EalOptions {
    fn default() -> Self {
        Self {
            main_cpus: Vec::new(),
            worker_cpus: Vec::new(),
            memory_mib: 512,
            huge_pages: HugePages::Auto,
            file_prefix: None,
            devices: Vec::new(),
            extra_args: Vec::new(),
        }
    }
}

impl EalOptions {
    /// The prefix that EAL will run under.
    pub(crate) fn prefix(&self) -> String {
        self.file_prefix.clone().unwrap_or_else(|| format!("dpnat-{}", std::process::id()))
    }

    /// Whether to use huge pages on this machine as it is now.
    pub(crate) fn decide_huge_pages(&self) -> Result<bool, Error> {
        let wanted_mib = u64::from(self.memory_mib);
        let free_mib = match self.huge_pages {
            HugePages::Off => return Ok(false),
            HugePages::Auto | HugePages::Required => free_huge_pages_mib(),
        };
        match self.huge_pages {
            HugePages::Required if free_mib < wanted_mib => {
                Err(Error::NoHugePages { free_mib, wanted_mib, pages: wanted_mib.div_ceil(2) })
            }
            _ => Ok(free_mib >= wanted_mib),
        }
    }

    /// DPDK's arguments, the program's name first.
    pub(crate) fn arguments(&self, huge: bool) -> Result<Vec<String>, Error> {
        let mut args = vec!["dpnat".to_owned(), "--lcores".to_owned(), self.lcores()?];
        args.extend(["-m".to_owned(), self.memory_mib.to_string()]);
        args.extend(["--file-prefix".to_owned(), self.prefix()]);
        // Nobody attaches to us; our own metrics take the place of DPDK's telemetry socket.
        args.push("--no-telemetry".to_owned());
        if huge {
            args.push("--in-memory".to_owned());
        } else {
            args.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]);
        }
        let pci: Vec<_> = self.devices.iter().filter(|d| device::is_pci(d)).collect();
        if pci.is_empty() {
            // Without devices that read physical addresses, virtual ones need no contiguous memory.
            args.extend(["--no-pci".to_owned(), "--iova-mode=va".to_owned()]);
        }
        for device in pci {
            args.extend(["-a".to_owned(), device.clone()]);
        }
        args.extend(self.extra_args.iter().cloned());
        Ok(args)
    }

    /// DPDK's lcore map: `0@(main CPUs),1@(CPU),…`.
    fn lcores(&self) -> Result<String, Error> {
        let list = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
        let online = parse_cpu_list(list.trim());
        let known = |&cpu: &u16| match online.is_empty() || online.contains(&cpu) {
            true => Ok(()),
            false => Err(Error::NoSuchCpu { cpu, online: list.trim().to_owned() }),
        };
        self.main_cpus.iter().try_for_each(known)?;
        self.worker_cpus.iter().try_for_each(known)?;
        let max = dpdk_sys::DPNAT_MAX_LCORE as usize - 1;
        if self.worker_cpus.len() > max {
            return Err(Error::TooManyWorkers { wanted: self.worker_cpus.len(), max });
        }
        for (i, cpu) in self.worker_cpus.iter().enumerate() {
            if self.worker_cpus[..i].contains(cpu) {
                return Err(Error::CpuTwice(*cpu));
            }
        }
        let main = self.choose_main_cpus();
        let mut map = format!("0@({})", main.join(","));
        for (i, cpu) in self.worker_cpus.iter().enumerate() {
            map.push_str(&format!(",{}@({cpu})", i + 1));
        }
        Ok(map)
    }

    fn choose_main_cpus(&self) -> Vec<String> {
        let allowed = allowed_cpus();
        let free = allowed.iter().copied().filter(|cpu| !self.worker_cpus.contains(cpu));
        let chosen: Vec<u16> = match self.main_cpus.is_empty() {
            false => self.main_cpus.clone(),
            true => free.collect(),
        };
        let chosen = if chosen.is_empty() { allowed } else { chosen };
        chosen.iter().map(u16::to_string).collect()
    }
}

/// The kernel's list format: `0-3,8`.
fn parse_cpu_list(list: &str) -> Vec<u16> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<u16>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
    };
    list.split(',').filter_map(range).flatten().collect()
}

/// The CPUs that this process may run on.
fn allowed_cpus() -> Vec<u16> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let cpus = parse_cpu_list(list.unwrap_or("0"));
    if cpus.is_empty() { vec![0] } else { cpus }
}

/// Free huge pages of all sizes, in MiB.
fn free_huge_pages_mib() -> u64 {
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
    let free = |entry: fs::DirEntry| -> Option<u64> {
        let name = entry.file_name().into_string().ok()?;
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        Some(pages.trim().parse::<u64>().ok()? * kib / 1024)
    };
    sizes.flatten().filter_map(free).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_read_as_the_kernel_writes_them() {
        assert_eq!(parse_cpu_list("0-3,8"), [0, 1, 2, 3, 8]);
        assert_eq!(parse_cpu_list(" 5"), [5]);
        assert!(parse_cpu_list("").is_empty());
    }

    #[test]
    fn arguments_name_lcores_devices_and_memory() {
        let options = EalOptions {
            main_cpus: vec![0],
            worker_cpus: vec![0],
            devices: vec!["net_null0".into()],
            file_prefix: Some("p".into()),
            memory_mib: 64,
            ..EalOptions::default()
        };
        let args = options.arguments(false).unwrap().join(" ");
        assert_eq!(
            args,
            "dpnat --lcores 0@(0),1@(0) -m 64 --file-prefix p --no-telemetry --no-huge --no-shconf \
             --no-pci --iova-mode=va"
        );
        let options = EalOptions { devices: vec!["0000:81:00.0".into()], ..options };
        let args = options.arguments(true).unwrap().join(" ");
        assert!(args.ends_with("--in-memory -a 0000:81:00.0"), "{args}");
    }

    #[test]
    fn impossible_workers_are_refused_by_name() {
        let options = EalOptions { worker_cpus: vec![60000], ..EalOptions::default() };
        let error = options.arguments(false).unwrap_err().to_string();
        assert!(error.starts_with("CPU 60000 is not online"), "{error}");
        let options = EalOptions { worker_cpus: vec![0, 0], ..EalOptions::default() };
        let error = options.arguments(false).unwrap_err().to_string();
        assert_eq!(error, "CPU 0 is given to more than one worker");
    }

    #[test]
    fn required_huge_pages_say_how_many_are_missing() {
        let options = EalOptions {
            huge_pages: HugePages::Required,
            memory_mib: u32::MAX,
            ..EalOptions::default()
        };
        let error = options.decide_huge_pages().unwrap_err().to_string();
        assert!(error.contains("vm.nr_hugepages=2147483648"), "{error}");
        let options = EalOptions { huge_pages: HugePages::Off, ..options };
        assert!(!options.decide_huge_pages().unwrap());
    }
}
