//! A terminal of a chosen width to run the command in.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, spawn};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

/// A pseudo-terminal. What is written to it is read at once, since it holds only a few frames of a progress bar.
pub(crate) struct Terminal {
    theirs: File,
    reader: JoinHandle<Vec<u8>>,
}

impl Terminal {
    pub(crate) fn new(columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size).unwrap();
        let mut ours = File::from(ours);
        let reader = spawn(move || {
            let mut bytes = Vec::new();
            // Linux reports the end as an error.
            let _ = ours.read_to_end(&mut bytes);
            bytes
        });
        Terminal { theirs: theirs.into(), reader }
    }

    /// Starts a command that writes everything to it.
    pub(crate) fn start(&self, mut command: Command) -> Child {
        let theirs = || Stdio::from(self.theirs.try_clone().unwrap());
        // Without a name, a terminal shows no colour and no bar.
        command.env("TERM", "xterm").stdin(Stdio::null()).stdout(theirs()).stderr(theirs());
        command.spawn().unwrap()
    }

    /// The text written to it, once nothing writes any more.
    pub(crate) fn text(self) -> String {
        drop(self.theirs);
        let bytes = self.reader.join().unwrap();
        String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
    }
}
