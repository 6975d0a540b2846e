use std::time::Duration;

use clap::error::ErrorKind;

use super::values::parse_duration;
use super::*;

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

#[test]
fn a_quota_is_refused_where_it_is_written() {
    let said = |line: &str| parse(line).expect_err(line).to_string();
    for quota in ["20", "2EiB", "1025PiB"] {
        let refused = said(&format!("new shop --quota {quota}"));
        assert!(refused.contains("'--quota <SIZE>': a quota is 1 MiB to 1 EiB"), "{refused}");
    }
    for (written, bytes) in [("1MiB", 1 << 20), ("1EiB", 1 << 60), ("3PiB", 3 << 50)] {
        let Verb::New { quota, .. } = parse(&format!("new shop --quota {written}")).unwrap().verb
        else {
            panic!("new is read as new");
        };
        assert_eq!(quota, Some(bytes));
    }
    assert!(said("new shop --quota 1ZiB").contains("PiB or EiB"));
}

#[test]
fn a_socket_is_written_with_its_scheme_and_an_absolute_path_that_can_be_reached() {
    let longest = format!("unix:///{}", "s".repeat(106));
    let too_long = format!("{longest}s");
    let all = [
        ("up --csi-endpoint", true),
        ("up --csi-endpoint unix:///a.sock --csi-controller-endpoint", true),
        ("node --hub unix:///h.sock --csi-endpoint", true),
        ("hub --listen", true),
        // a node of ours gets to a Hub whose path is longer
        ("node --hub", false),
    ];
    for (line, is_bounded) in all {
        let flag = line.rsplit(' ').next().unwrap();
        let said = |socket: &str| {
            let refused = parse(&format!("{line} {socket}")).err().map(|error| error.to_string());
            refused.inspect(|text| assert!(text.contains(flag), "{text}")).unwrap_or_default()
        };
        for written in ["unix:///run/x.sock", "unix:/run/x.sock", &longest] {
            assert_eq!(said(written), "", "{line}");
        }
        for relative in ["unix://run/x.sock", "unix:x.sock", "/run/x.sock", "x.sock"] {
            assert!(said(relative).contains("unix:///PATH, with an absolute path"), "{line}");
        }
        let bound = if is_bounded { "at most 107 bytes, this one has 108" } else { "" };
        assert!(said(&too_long).contains(bound) && said(&too_long).is_empty() != is_bounded);
    }
    let long = format!("up --csi-endpoint unix:///a.sock --csi-registration /{}", "d".repeat(90));
    let refused = parse(&long).unwrap_err().to_string();
    assert!(refused.contains("--csi-registration") && refused.contains("107 bytes"), "{refused}");
}

#[test]
fn what_is_no_address_or_number_is_told_what_is_wanted() {
    let said = |line: &str| parse(line).expect_err(line).to_string();
    let csi = "up --csi-endpoint unix:///a.sock";
    assert!(said(&format!("{csi} --csi-volumes-max 0")).contains("a number of volumes is 1 to"));
    for line in [&*format!("{csi} --csi-healthz foo"), "up --listen 7070", "hub --http-listen x"] {
        assert!(said(line).contains("an address is ADDR:PORT, such as 127.0.0.1:7070"), "{line}");
    }
}
