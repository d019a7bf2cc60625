//! Hooks, from the words of the configuration.

use config as words;
use engine::hook::{HookCommand, Webhook};

use crate::hooks::Wanted;

/// How one hook is told.
#[derive(Debug)]
pub(crate) enum Way {
    /// By running a command.
    Command(HookCommand),
    /// By posting.
    Webhook {
        /// Where.
        webhook: Box<Webhook>,
        /// How often at most, for one event.
        attempts: u32,
    },
}

impl Way {
    /// What it is called in the configuration, and where a webhook is.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Command(_) => "on_event".to_owned(),
            Self::Webhook { webhook, .. } => format!("webhook {}", webhook.place()),
        }
    }
}

/// Every hook with what it listens for: the node's, then those of services.
pub(crate) fn ways(config: &words::Config) -> Vec<(Wanted, Way)> {
    let own = config
        .services
        .iter()
        .filter_map(|(name, service)| Some((Some(name.to_string()), service.hooks.as_ref()?)));
    let all = config.hooks.iter().map(|hooks| (None, hooks)).chain(own);
    all.flat_map(|(service, hooks)| {
        let wanted = Wanted { service, kinds: hooks.kinds.iter().cloned().collect() };
        ways_of(hooks).into_iter().map(move |way| (wanted.clone(), way))
    })
    .collect()
}

fn ways_of(hooks: &words::Hooks) -> Vec<Way> {
    let command = |argv: &Vec<String>| HookCommand::new(argv.clone(), hooks.timeout).ends_with_us();
    let command = hooks.on_event.as_ref().map(|argv| Way::Command(command(argv)));
    let webhook = hooks.webhook.as_ref().and_then(|hook| {
        let webhook = Webhook::new(&hook.url, hook.headers.clone(), hook.ca.clone(), hooks.timeout);
        match webhook {
            Ok(webhook) => Some(Way::Webhook { webhook: Box::new(webhook), attempts: hook.attempts }),
            Err(error) => {
                tracing::error!(%error, "a webhook cannot be told of anything");
                None
            }
        }
    });
    command.into_iter().chain(webhook).collect()
}
