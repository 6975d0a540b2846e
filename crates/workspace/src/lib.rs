//! Projects and what people do with them.
//!
//! Names, timelines, forks, restores and the trash, over the trait
//! [`cove_content::volumes::Volumes`]; it reaches bytes through nothing else.

