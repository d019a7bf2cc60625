//! What the scenes came to.

/// One scene.
pub(super) struct Row {
    /// What was done to the service.
    pub(super) scene: &'static str,
    /// The rung that brought it back, as the supervisor says.
    pub(super) rung: String,
    /// From the fault's notice to the first good answer, as the supervisor says, milliseconds.
    pub(super) recovery_ms: f64,
    /// How long the client had no answer, milliseconds.
    pub(super) silence_ms: f64,
    /// What the service knew last before.
    pub(super) before: u64,
    /// What it knew first after.
    pub(super) after: u64,
    /// Whether the rest of its state is whole.
    pub(super) whole: bool,
}

/// Prints them.
pub(super) fn print(rows: &[Row]) {
    println!(
        "\n  what happened                          came back by     recovery   no answer    count before -> after   state"
    );
    println!("  {}", "-".repeat(108));
    for row in rows {
        println!(
            "  {:<38} {:<15} {:>6.0} ms  {:>6.0} ms   {:>10} -> {:<10}  {}",
            row.scene,
            row.rung,
            row.recovery_ms,
            row.silence_ms,
            row.before,
            row.after,
            if row.whole { "whole" } else { "DAMAGED" }
        );
    }
    println!(
        "\n  recovery: from noticing the fault to the first good answer. no answer: what a client saw, with the\n  \
         time to notice (a hang is noticed by its probes). What was counted after the newest image is lost, no more.\n"
    );
}
