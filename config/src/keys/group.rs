//! `[group.NAME]`: several services as one.

use super::checkpoint::GROUP_CHECKPOINT;
use super::hooks::GROUP_HOOKS;
use super::restart::GROUP_RESTART;
use super::service::{NAMES, restore_timeout, start_from, start_timeout};
use super::{Key, Section};

pub(super) static GROUP: Section = Section {
    title: "group.NAME",
    doc: "Services that know of each other: those with `group = \"NAME\"` are started, frozen, checkpointed, restored and ended as one, so \
    that what one has sent the other has received, after a restore too. A group has one state, one row of images and one policy; commands \
    name the group. NAME is no service's.",
    keys: &[
        start_timeout(),
        start_from(),
        restore_timeout(),
        Key::default(
            "depends_on",
            NAMES,
            "[]",
            "Services and groups that must be healthy before this one is started.",
        ),
        Key::table("checkpoint", &GROUP_CHECKPOINT),
        Key::table("restart", &GROUP_RESTART),
        Key::table("hooks", &GROUP_HOOKS),
    ],
};
