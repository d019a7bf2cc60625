//! May this image run on this host? Asked before CRIU sees it, answered with every reason at once.
//!
//! An image from a newer CPU dies with SIGILL, or worse, computes on; one of a newer CRIU may be read wrongly. It refuses
//! another architecture always; the rest can be overridden by somebody who knows better, and is then noted.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Report, Result};

/// The host as an image remembers it, and as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Which boot: `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Flags that every processor has, sorted.
    pub cpu_features: Vec<String>,
    /// Version of CRIU, `4.1.1`.
    pub criu: String,
}

/// What speaks against restoring an image here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The image holds machine code of another architecture.
    Architecture {
        /// The image's.
        image: String,
        /// This host's.
        here: String,
    },
    /// The service may use instructions that this CPU lacks.
    CpuFeatures {
        /// The flags, sorted.
        missing: Vec<String>,
    },
    /// This CRIU is older than the one that wrote the image.
    CriuOlder {
        /// The image's.
        image: String,
        /// This host's.
        here: String,
    },
}

/// What is worth a line in the journal, and nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Another kernel release.
    Kernel {
        /// The image's.
        image: String,
        /// This host's.
        here: String,
    },
    /// A reason that somebody chose to override.
    Overridden(Reason),
}

/// Whether reasons that may be wrong stop a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Every reason refuses.
    Enforced,
    /// Only another architecture refuses; the rest become notes.
    Overridden,
}

/// CPU flags that a program's own code may depend on: new instructions and registers, and how their state is saved.
/// The kernel's own (smep, ept, ...) and mere speed hints (erms, fsrm, ...) are left out.
const USERLAND_FLAGS_X86: &[&str] = &[
    "3dnowext",
    "3dnow",
    "abm",
    "adx",
    "aes",
    "amx_bf16",
    "amx_complex",
    "amx_fp16",
    "amx_int8",
    "amx_tile",
    "avx",
    "avx2",
    "avx_ifma",
    "avx_ne_convert",
    "avx_vnni",
    "avx_vnni_int16",
    "avx_vnni_int8",
    "bmi1",
    "bmi2",
    "cldemote",
    "clflush",
    "clflushopt",
    "clwb",
    "clzero",
    "cmov",
    "cmpccxadd",
    "cx16",
    "cx8",
    "enqcmd",
    "f16c",
    "fma",
    "fma4",
    "fpu",
    "fsgsbase",
    "fxsr",
    "gfni",
    "hle",
    "ibt",
    "lahf_lm",
    "lwp",
    "misalignsse",
    "mmx",
    "mmxext",
    "movbe",
    "movdir64b",
    "movdiri",
    "ospke",
    "pclmulqdq",
    "pku",
    "pni",
    "popcnt",
    "prefetchi",
    "ptwrite",
    "rdpid",
    "rdrand",
    "rdseed",
    "rdtscp",
    "rtm",
    "serialize",
    "sha512",
    "sha_ni",
    "sm3",
    "sm4",
    "sse",
    "sse2",
    "sse4_1",
    "sse4_2",
    "sse4a",
    "ssse3",
    "tbm",
    "tsxldtrk",
    "user_shstk",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
    "xgetbv1",
    "xop",
    "xsave",
    "xsavec",
    "xsaveopt",
    "xsaves",
];

impl Host {
    /// This host, now; `criu` is the version that CRIU itself gave.
    ///
    /// # Errors
    /// `Unavailable` when /proc can't be read.
    pub fn probe(criu: &str) -> Result<Self> {
        let name = nix::sys::utsname::uname();
        let name =
            name.map_err(|e| Error::Unavailable(Report::new("cannot ask for the kernel's name").because(e)))?;
        Ok(Self {
            boot_id: boot_id()?,
            kernel: name.release().to_string_lossy().into_owned(),
            architecture: name.machine().to_string_lossy().into_owned(),
            cpu_features: cpu_features(&read("/proc/cpuinfo")?),
            criu: criu.to_owned(),
        })
    }
}

/// The identity of this boot.
///
/// # Errors
/// `Unavailable` when /proc can't be read.
pub fn boot_id() -> Result<String> {
    read("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

/// May an image of `image` run on `here`? `Ok` with what is worth noting, or every reason against it.
///
/// # Errors
/// All the reasons, never an empty list.
pub fn check(image: &Host, here: &Host, strictness: Strictness) -> Result<Vec<Note>, Vec<Reason>> {
    let reasons = reasons(image, here);
    let stays = |r: &Reason| strictness == Strictness::Enforced || matches!(r, Reason::Architecture { .. });
    if reasons.iter().any(stays) {
        return Err(reasons);
    }
    let mut notes: Vec<Note> = reasons.into_iter().map(Note::Overridden).collect();
    if image.kernel != here.kernel {
        notes.push(Note::Kernel { image: image.kernel.clone(), here: here.kernel.clone() });
    }
    Ok(notes)
}

fn reasons(image: &Host, here: &Host) -> Vec<Reason> {
    let mut reasons = Vec::new();
    if image.architecture != here.architecture {
        // Flags of different architectures can't be compared.
        reasons.push(Reason::Architecture {
            image: image.architecture.clone(),
            here: here.architecture.clone(),
        });
    } else {
        let missing = missing_features(image, here);
        if !missing.is_empty() {
            reasons.push(Reason::CpuFeatures { missing });
        }
    }
    if series(&here.criu) < series(&image.criu) {
        reasons.push(Reason::CriuOlder { image: image.criu.clone(), here: here.criu.clone() });
    }
    reasons
}

fn missing_features(image: &Host, here: &Host) -> Vec<String> {
    let have: BTreeSet<&str> = here.cpu_features.iter().map(String::as_str).collect();
    let wanted = image.cpu_features.iter().filter(|f| matters(&image.architecture, f));
    let missing: BTreeSet<&String> = wanted.filter(|f| !have.contains(f.as_str())).collect();
    missing.into_iter().cloned().collect()
}

/// Elsewhere than on x86, /proc/cpuinfo lists hardware capabilities for programs only, so all of them matter.
fn matters(architecture: &str, flag: &str) -> bool {
    match architecture {
        "x86_64" | "i686" | "i586" | "i386" => {
            flag.starts_with("avx512") || USERLAND_FLAGS_X86.contains(&flag)
        }
        _ => true,
    }
}

/// Major and minor; CRIU's third number never changes the images. What isn't a number counts as zero.
fn series(version: &str) -> (u32, u32) {
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Flags that all processors have in common: on a hybrid CPU the service may be put on any of them.
fn cpu_features(cpuinfo: &str) -> Vec<String> {
    let lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let flags = lines.filter(|(key, _)| matches!(key.trim(), "flags" | "Features" | "features" | "isa"));
    let sets = flags.map(|(_, value)| value.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>());
    let common = sets.reduce(|a, b| a.intersection(&b).cloned().collect());
    common.unwrap_or_default().into_iter().collect()
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path)
        .map_err(|e| Error::Unavailable(Report::new(format!("cannot read {path}")).because(e)))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Architecture { image, here } => write!(f, "image is for {image}, this host is {here}"),
            Self::CpuFeatures { missing } => {
                write!(f, "this CPU lacks what the image may use: {}", missing.join(" "))
            }
            Self::CriuOlder { image, here } => {
                write!(f, "image was written by CRIU {image}, here is CRIU {here}")
            }
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { image, here } => write!(f, "image was taken under kernel {image}, here is {here}"),
            Self::Overridden(reason) => write!(f, "overridden: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(architecture: &str, features: &[&str], criu: &str) -> Host {
        Host {
            boot_id: "boot".to_owned(),
            kernel: "6.1.0".to_owned(),
            architecture: architecture.to_owned(),
            cpu_features: features.iter().map(|f| (*f).to_owned()).collect(),
            criu: criu.to_owned(),
        }
    }

    #[test]
    fn this_host_suits_itself_and_has_flags() {
        let here = Host::probe("4.1.1").expect("/proc is there");
        assert_eq!(check(&here, &here, Strictness::Enforced), Ok(vec![]));
        assert!(!here.cpu_features.is_empty() && here.cpu_features.is_sorted());
        assert!(here.boot_id.len() == 36 && !here.kernel.is_empty() && !here.architecture.is_empty());
    }

    #[test]
    fn flags_are_those_that_all_processors_share() {
        let text =
            "processor : 0\nflags\t\t: sse avx avx2\n\nprocessor : 1\nflags\t\t: avx2 sse\nbugs : avx\n";
        assert_eq!(cpu_features(text), ["avx2", "sse"]);
        assert_eq!(cpu_features("Features\t: fp asimd\n"), ["asimd", "fp"]);
        assert!(cpu_features("").is_empty());
    }

    #[test]
    fn a_table_of_hosts() {
        let missing = |names: &[&str]| Reason::CpuFeatures { missing: host("", names, "").cpu_features };
        let older = |image: &str, here: &str| Reason::CriuOlder { image: image.into(), here: here.into() };
        let other = |image: &str, here: &str| Reason::Architecture { image: image.into(), here: here.into() };
        #[rustfmt::skip]
        let table = [
            (host("x86_64", &["avx", "smep"], "4.1"), host("x86_64", &["avx"], "4.1"), vec![]),
            (host("x86_64", &["avx"], "4.1"), host("x86_64", &["avx", "avx2"], "4.2"), vec![]),
            (host("x86_64", &["sse", "avx512f", "avx"], "4.1"), host("x86_64", &["sse"], "4.1"), vec![missing(&["avx", "avx512f"])]),
            (host("aarch64", &["fp", "sve"], "4.1"), host("aarch64", &["fp"], "4.1"), vec![missing(&["sve"])]),
            (host("aarch64", &["fp"], "4.1"), host("x86_64", &["sse"], "4.1"), vec![other("aarch64", "x86_64")]),
            (host("x86_64", &[], "4.2.1"), host("x86_64", &[], "4.1.9"), vec![older("4.2.1", "4.1.9")]),
            (host("x86_64", &[], "4.2.1"), host("x86_64", &[], "4.2"), vec![]),
            (host("x86_64", &[], "4.2"), host("x86_64", &[], "4.10"), vec![]),
            (host("x86_64", &["avx"], "4.2"), host("x86_64", &[], "3.17.1"), vec![missing(&["avx"]), older("4.2", "3.17.1")]),
        ];
        for (image, here, reasons) in table {
            let expected = if reasons.is_empty() { Ok(vec![]) } else { Err(reasons.clone()) };
            assert_eq!(check(&image, &here, Strictness::Enforced), expected, "{image:?} on {here:?}");
            let architecture = reasons.iter().any(|r| matches!(r, Reason::Architecture { .. }));
            let notes = reasons.iter().cloned().map(Note::Overridden).collect();
            let expected = if architecture { Err(reasons) } else { Ok(notes) };
            assert_eq!(check(&image, &here, Strictness::Overridden), expected, "{image:?} on {here:?}");
        }
    }

    #[test]
    fn another_kernel_is_only_noted() {
        let (image, mut here) = (host("x86_64", &[], "4.1"), host("x86_64", &[], "4.1"));
        here.kernel = "6.18.5".to_owned();
        let notes = check(&image, &here, Strictness::Enforced).expect("it may run");
        assert_eq!(
            notes.iter().map(Note::to_string).collect::<Vec<_>>(),
            ["image was taken under kernel 6.1.0, here is 6.18.5"]
        );
    }
}
