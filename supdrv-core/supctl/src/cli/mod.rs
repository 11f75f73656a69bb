//! The commands.

mod bench;
mod cost;
mod gip;
mod info;
mod load;
mod selftest;

use std::process::ExitCode;

use supctl::suite;
use supctl::transport::{Node, Transport};

const HELP: &str = "\
supctl: talks to the support driver

Usage: supctl COMMAND [OPTIONS]

Commands:
  info                 versions, functions, paging mode, CPU capabilities
      --functions      list every function that modules can link against
  gip                  the global info page, live: mode, CPU frequencies, its time against the system's clock
      --count N        so many lines, then end (default: until interrupted)
  selftest             the conformance suite; ends with 'N passed, N failed'
      --filter TEXT    only cases whose title contains TEXT
      --list           list the cases, run none
      --image FILE     instead: run the checks inside of an image (can be repeated; see supctl/images)
  bench                operations per second of each service
      --short          a tenth of the time
  load IMAGE           link a ring-0 image (ELF), load it, print its symbols, free it
      --name NAME      its name in the driver (default: the file's)
      --service SYMBOL load it as a service with this request handler
      --call N         then call operation N of it
      --vmmr0          load it as VMMR0, with VMMR0EntryInt, VMMR0EntryFast and VMMR0EntryEx
  hold                 hold one of everything and wait to be killed
      --busy           go on allocating and freeing meanwhile
  cost                 instructions of single requests; exact where the time stamp counter counts them (QEMU -icount)

Options of all commands:
  --device PATH        another device node than the system's (Linux)
  -h, --help           this text
  -V, --version        version of this program

Exit status: 0 done, 1 failed (the reason is on standard error), 2 wrong usage.
";

/// Why a command ended without success.
pub enum Failure {
    /// Said on standard error already, or in the output.
    Silent,
    /// What went wrong.
    Failed(String),
    /// The arguments make no sense.
    Usage(String),
}

/// What a command returns.
pub type Result<T = ()> = core::result::Result<T, Failure>;

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// The words of a command line, taken one by one.
pub struct Words {
    words: Vec<String>,
}

impl Words {
    /// Takes a flag, if it is there.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Takes an option's value, if it is there: `--name VALUE` or `--name=VALUE`.
    fn option(&mut self, name: &str) -> Result<Option<String>> {
        let joined = self
            .words
            .iter()
            .position(|word| word.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')));
        if let Some(at) = joined {
            let word = self.words.remove(at);
            return Ok(word.split_once('=').map(|(_, value)| value.to_owned()));
        }
        let Some(at) = self.words.iter().position(|word| word == name) else { return Ok(None) };
        if at + 1 >= self.words.len() {
            return Err(Failure::Usage(format!("{name} needs a value")));
        }
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// Takes an option's value as a number.
    fn number(&mut self, name: &str) -> Result<Option<u64>> {
        let Some(text) = self.option(name)? else { return Ok(None) };
        let number =
            text.parse().map_err(|_| Failure::Usage(format!("{name} needs a number, not {text:?}")))?;
        Ok(Some(number))
    }

    /// Takes the next word that isn't an option.
    fn operand(&mut self) -> Option<String> {
        let at = self.words.iter().position(|word| !word.starts_with('-'))?;
        Some(self.words.remove(at))
    }

    /// Everything was taken.
    fn end(&self) -> Result {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(Failure::Usage(format!("{word:?} isn't understood"))),
        }
    }
}

/// Runs the command that the arguments say.
pub fn run(arguments: impl Iterator<Item = String>) -> ExitCode {
    match dispatch(Words { words: arguments.collect() }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Silent) => ExitCode::FAILURE,
        Err(Failure::Failed(reason)) => {
            eprintln!("supctl: {reason}");
            ExitCode::FAILURE
        }
        Err(Failure::Usage(reason)) => {
            eprintln!("supctl: {reason}; see supctl --help");
            ExitCode::from(2)
        }
    }
}

fn dispatch(mut words: Words) -> Result {
    if words.flag("--help") || words.flag("-h") {
        print!("{HELP}");
        return Ok(());
    }
    if words.flag("--version") || words.flag("-V") {
        println!("supctl {}", env!("CARGO_PKG_VERSION"));
        return Ok(());
    }
    let transport = transport(&mut words)?;
    let transport = &*transport;
    match words.operand().as_deref() {
        Some("info") => info::run(transport, words),
        Some("gip") => gip::run(transport, words),
        Some("selftest") => selftest::run(transport, words),
        Some("bench") => bench::run(transport, words),
        Some("load") => load::run(transport, words),
        Some(suite::HOLD_ARGUMENT) => {
            let busy = words.flag("--busy");
            words.end()?;
            suite::hold_everything(transport, busy).map_err(Failure::Failed)
        }
        Some("cost") => cost::run(transport, words),
        Some(other) => Err(Failure::Usage(format!("there is no command {other:?}"))),
        None => Err(Failure::Usage("a command is missing".into())),
    }
}

#[cfg(target_os = "linux")]
fn transport(words: &mut Words) -> Result<Box<dyn Transport>> {
    use supctl::transport::linux::DeviceNodes;
    Ok(Box::new(match words.option("--device")? {
        Some(path) => DeviceNodes::at(&path, &format!("{path}u")),
        None => DeviceNodes::default(),
    }))
}

#[cfg(windows)]
fn transport(_: &mut Words) -> Result<Box<dyn Transport>> {
    Ok(Box::new(supctl::transport::windows::DeviceNodes))
}

#[cfg(not(any(target_os = "linux", windows)))]
fn transport(_: &mut Words) -> Result<Box<dyn Transport>> {
    Err(Failure::Failed("there is no way to the driver on this system yet".into()))
}

/// Opens the device for everything, with advice when that fails.
fn open(transport: &dyn Transport) -> Result<supctl::client::Client> {
    supctl::client::Client::open(transport, Node::Unrestricted).map_err(|error| {
        let advice = match &error {
            supctl::error::Error::Open(supctl::transport::OpenError::NotFound { .. }) => {
                "\n        Load the driver first, on Linux with: insmod vboxdrv.ko"
            }
            supctl::error::Error::Refused { .. } => {
                "\n        Client and driver must be for the same pointer width: a 64-bit driver only takes 64-bit clients"
            }
            _ => "",
        };
        Failure::Failed(format!("{error}{advice}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        Words { words: line.split_whitespace().map(str::to_owned).collect() }
    }

    #[test]
    fn options_are_taken_wherever_they_are() {
        let mut words = words("gip --count 5 --device=/dev/x rest --short");
        assert!(words.flag("--short") && !words.flag("--short"));
        assert!(matches!(words.number("--count"), Ok(Some(5))));
        assert!(matches!(words.option("--device"), Ok(Some(path)) if path == "/dev/x"));
        assert_eq!(words.operand().as_deref(), Some("gip"));
        assert_eq!(words.operand().as_deref(), Some("rest"));
        assert!(words.end().is_ok());
    }

    #[test]
    fn what_is_left_over_is_wrong_usage() {
        assert!(matches!(words("--typo").end(), Err(Failure::Usage(text)) if text.contains("--typo")));
        assert!(matches!(words("--count").option("--count"), Err(Failure::Usage(_))));
        assert!(matches!(words("--count many").number("--count"), Err(Failure::Usage(_))));
    }
}
