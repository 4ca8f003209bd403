//! Storage in a directory, through the files of an [`Env`].
//!
//! Both stores of a job share one directory: [`LocalCas`] keeps `decision-<version>` files in it, [`LocalBlob`] its
//! objects in folders below. Whatever gets a name for good is written under a temporary name first (`.tmp-<writer>-<n>`),
//! synced, linked to its name (which fails if the name is taken), and the directory synced; so a name always leads to a
//! whole file, and a crash leaves at most temporaries, which the next start sweeps.

mod blob;
mod cas;
mod place;

pub use blob::LocalBlob;
pub use cas::LocalCas;

#[cfg(doc)]
use rivermark_env::Env;
