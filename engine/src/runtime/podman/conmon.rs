//! conmon, the parent of a container of podman's: where it will note how the container ended.
//!
//! It writes the exit code to a file before it has podman clear up. Its own command line says where.

use std::path::{Path, PathBuf};

use super::super::container::ExitNote;
use super::super::runc::state::parent;

/// Where the end of a container that runs now will be noted; `None` if its parent is not conmon as we know it.
pub(super) fn exit_note(pid: i32) -> Option<ExitNote> {
    let words = std::fs::read(format!("/proc/{}/cmdline", parent(pid)?)).ok()?;
    let words: Vec<String> =
        words.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    let (code, out_of_memory) = notes(&words)?;
    Some(ExitNote::awaited(code, out_of_memory))
}

/// The file with the exit code, and the one that exists after an end for want of memory.
fn notes(words: &[String]) -> Option<(PathBuf, PathBuf)> {
    let is_conmon = Path::new(words.first()?).file_name()? == "conmon";
    // What follows are options of podman's.
    let own = words.iter().position(|word| word == "--exit-command").unwrap_or(words.len());
    let of = |option: &str| {
        let at = words[..own].iter().position(|word| word == option)?;
        words.get(at + 1)
    };
    let (id, folder, bundle) = (of("-c")?, of("--exit-dir")?, of("-b")?);
    is_conmon.then(|| (Path::new(folder).join(id), Path::new(bundle).join("oom")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> Option<(PathBuf, PathBuf)> {
        notes(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn its_command_line_says_where_it_notes_the_end() {
        let conmon = "/usr/bin/conmon --api-version 1 -c da51 -u da51 -r /usr/sbin/runc -b /s/da51/userdata \
                      -p /r/pidfile -n web --exit-dir /r/exits --full-attach --exit-command /usr/bin/podman \
                      --exit-command-arg --exit-dir --exit-command-arg /elsewhere";
        assert_eq!(found(conmon), Some(("/r/exits/da51".into(), "/s/da51/userdata/oom".into())));
        assert_eq!(found(&conmon.replace("/usr/bin/conmon", "/usr/bin/other")), None);
        assert_eq!(
            found(&conmon.replace("web --exit-dir /r/exits", "web")),
            None,
            "only podman's own option"
        );
    }
}
