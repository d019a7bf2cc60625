//! What is published of a lease.

use serde::{Deserialize, Serialize};

/// A service's lease, as this node sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct LeaseStatus {
    /// `holder`, `standby`, `acquiring`.
    pub(crate) role: String,
    /// The node that holds it, as far as is known.
    pub(crate) holder: Option<String>,
    /// The epoch of the present or last holder.
    pub(crate) epoch: u64,
    /// It was stopped on purpose where it is held, and stays so with whoever takes it over.
    #[serde(default)]
    pub(crate) stopped: bool,
    /// The same, suspended: its state waits in its newest image.
    #[serde(default)]
    pub(crate) suspended: bool,
    /// What the lease says was acknowledged by a replica: whoever takes the service over begins from no older image.
    #[serde(default)]
    pub(crate) replicated: Option<String>,
    /// Of a standby: the image that lies ready for a take-over.
    pub(crate) prepared: Option<String>,
    /// Why a take-over could not begin at once, or the store cannot be asked.
    pub(crate) not_ready: Option<String>,
}
