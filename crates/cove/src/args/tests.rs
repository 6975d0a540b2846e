use super::*;
use clap::error::ErrorKind;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("cove").chain(line.split(' ')))
}

fn refused(line: &str) -> ErrorKind {
    parse(line).expect_err(line).kind()
}

#[test]
fn the_command_line_is_sound() {
    command().debug_assert();
}

#[test]
fn json_and_quiet_stand_anywhere_and_not_together() {
    assert!(parse("--json ls").unwrap().output.json);
    assert!(parse("files ls shop:/ --json").unwrap().output.json);
    assert!(parse("ls -q").unwrap().output.quiet);
    assert_eq!(refused("ls --json --quiet"), ErrorKind::ArgumentConflict);
}

#[test]
fn what_comes_after_two_dashes_is_a_path_to_restore() {
    let Verb::Restore { name, entry, paths, force, .. } =
        parse("restore shop @v1 --force -- src/app.ts --odd").unwrap().verb
    else {
        panic!("restore is read as restore");
    };
    assert_eq!((name.as_str(), entry.as_deref(), force), ("shop", Some("@v1"), true));
    assert_eq!(paths, ["src/app.ts", "--odd"]);
    let Verb::Restore { name, entry, paths, .. } =
        parse("restore shop@v1 -- src/app.ts").unwrap().verb
    else {
        panic!("restore is read as restore");
    };
    assert_eq!((name.as_str(), entry), ("shop@v1", None));
    assert_eq!(paths, ["src/app.ts"]);
    assert_eq!(refused("restore shop v1 src/app.ts"), ErrorKind::UnknownArgument);
}

#[test]
fn a_diff_takes_one_or_two_moments() {
    assert!(parse("diff shop@a..shop").is_ok());
    assert!(parse("diff shop@a shop@b --stat").is_ok());
    assert_eq!(refused("diff"), ErrorKind::MissingRequiredArgument);
    assert_eq!(refused("diff a b --stat --name-status"), ErrorKind::ArgumentConflict);
}

#[test]
fn find_is_read_as_find_1_has_it_and_nothing_else_is() {
    let read = |line: &str| {
        let words = as_options(line.split(' ').map(OsString::from));
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    };
    assert_eq!(
        read("cove --json files find shop:/ -name *.ts -type f"),
        "cove --json files find shop:/ --name *.ts --type f"
    );
    assert_eq!(read("cove files find -name a shop:/"), "cove files find --name a shop:/");
    assert_eq!(read("cove files grep -name shop:/"), "cove files grep -name shop:/");
    assert_eq!(read("cove"), "cove");
    let line = read("cove files find shop:/ -name *.ts -type d --json");
    assert!(Cli::try_parse_from(line.split(' ')).unwrap().output.json);
    assert_eq!(refused("files find shop:/ --type x"), ErrorKind::InvalidValue);
}

#[test]
fn flags_that_people_type_by_habit_are_taken() {
    for line in [
        "files ls -l -a shop:/",
        "files ls -la shop:/",
        "files rm -rf shop:/a",
        "files mkdir -p shop:/a",
        "files grep -rniE a.b shop:/",
        "files grep -lF a shop:/",
        "cp -L a shop:/",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
    assert_eq!(refused("files grep -EF a shop:/"), ErrorKind::ArgumentConflict);
}

#[test]
fn numbers_have_their_ranges() {
    assert_eq!(refused("fork shop --count 0"), ErrorKind::ValueValidation);
    assert_eq!(refused("verify --level 3"), ErrorKind::ValueValidation);
    assert_eq!(refused("verify --level 2 --read 3/2"), ErrorKind::ValueValidation);
    assert!(parse("verify shop --level 2 --read 2/3").is_ok());
}

#[test]
fn sizes_and_durations_are_read_with_their_units() {
    assert_eq!(parse_bytes("4096"), Ok(4096));
    assert_eq!(parse_bytes("4GiB"), Ok(4 << 30));
    assert_eq!(parse_bytes("2k"), Ok(2048));
    assert!(parse_bytes("-1").is_err() && parse_bytes("99999999999T").is_err());
    assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
    assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
    assert!(parse_duration("0s").is_err() && parse_duration("3 fortnights").is_err());
}

#[test]
fn up_takes_the_flags_of_its_contract() {
    let line = "up --detach --home /h --listen 127.0.0.1:0 --pool-bytes 4294967296 \
                --objects s3://b/p --store-every 5s --store-timeout 2s";
    let Verb::Up(up) = parse(line).unwrap().verb else { panic!("up is read as up") };
    assert!(up.detach);
    assert_eq!(up.home, Some("/h".into()));
    assert_eq!(up.listen.unwrap().port(), 0);
    assert_eq!(up.disk.pool_bytes, Some(4 << 30));
    assert_eq!(up.disk.objects.as_deref(), Some("s3://b/p"));
    assert_eq!(up.disk.store_every, Duration::from_secs(5));
    assert_eq!(up.disk.store_timeout, Duration::from_secs(2));
}
