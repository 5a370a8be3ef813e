//! What can be in the way of an output.

use std::path::PathBuf;

use super::{MAX_ENTRIES, listed};
use crate::problems;

problems! {
    /// What can be in the way of an output.
    pub(crate) enum Problem {
        /// `.`, `..` or the root: nothing can be renamed to them.
        NoName = Occupied, "is in use, and an output needs a name of its own";
        /// A file or folder that could be replaced.
        Exists = Exists, "exists";
        /// A folder is wanted, and something else is there.
        NoFolder = Occupied, "exists and is not a folder";
        /// A file is wanted, and a folder is there.
        IsFolder = Occupied, "exists and is a folder";
        /// A file is wanted, and a pipe, a socket or a device is there.
        Irregular = Occupied, "exists and is not a regular file";
        /// A folder holds something that no output of this kind has.
        Strangers { names: Vec<PathBuf> } = Occupied,
            "also holds {}, which replacing it would delete", listed(names);
        /// A folder holds more than an output can have.
        Large = Occupied, "holds more than {MAX_ENTRIES} files, so it is not replaced";
        /// A symbolic link that points to nothing.
        LinkToNothing { to: PathBuf } = Occupied, "is a link to `{}`, which does not exist", to.display();
        /// A symbolic link whose target is not found.
        Link = Occupied, "cannot follow it";
        /// A part of the path is a file.
        ParentIsFile = Io, "is a file where a folder must be";

        /// Something appeared in the output's place.
        Appeared = Appeared, "appeared while the output was being written, so it was not replaced";
        /// Something appeared in the folder to be replaced.
        AppearedInside { names: Vec<PathBuf> } = Appeared,
            "now also holds {}, which appeared while the output was being written", listed(names);
    }
}
