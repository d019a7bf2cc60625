//! What names a unit of systemd's (systemd.unit(5)).

use super::text;
use crate::read::Cell;

/// The longest name of a unit.
const LONGEST: usize = 255;

/// The name of a service unit that can be started: no template.
pub(crate) fn unit(cell: &Cell<'_>) -> Option<String> {
    let name = text(cell)?;
    let known = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let Some(stem) = name.strip_suffix(".service").filter(|stem| !stem.is_empty()) else {
        let hint = "write its whole name, as `\"redis.service\"`";
        return cell.fault("this is not the name of a service unit", hint);
    };
    if name.len() > LONGEST || !name.chars().all(known) || stem.starts_with('@') {
        let hint = "`systemctl list-units --type=service` shows the names of those that are loaded";
        return cell.fault("this cannot be the name of a unit", hint);
    }
    if stem.ends_with('@') {
        let hint = "name one of its instances, as `\"name@instance.service\"`";
        return cell.fault("this is a template, which cannot be started", hint);
    }
    Some(name)
}
