//! Owns what counts as a word, in what was said and in what is looked for. Does not know the index. Invariant: the words of a query that
//! is a part of a text are among the words of that text, wherever the words of the text begin.

use jieba_rs::Jieba;
use std::sync::LazyLock;

/// Longer words are cut, in characters: nobody looks for what is behind it.
const WORD_CHARS_MAX: usize = 64;
/// Words that are shorter keep their endings, in letters.
const STEM_LETTERS_MIN: usize = 4;

/// The dictionary: some tens of megabytes, read when the first Chinese text comes.
static DICTIONARY: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// A word as it is looked for, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// Counts characters of scripts without spaces, and words of the others.
    pub at: usize,
    /// Bytes of the text.
    pub from: usize,
    pub to: usize,
}

/// Characters of one kind.
struct Run {
    kind: Kind,
    from: usize,
    to: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a script that writes no spaces between words.
    Dense,
    Letters,
    Between,
}

/// Full-width forms are those of everybody else.
fn narrow(c: char) -> char {
    match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(c as u32 - 0xfee0).unwrap_or(c),
        '\u{3000}' => ' ',
        _ => c,
    }
}

fn kind_of(c: char) -> Kind {
    match c {
        // Thai, Lao, Myanmar, Khmer; kana; Han; Hangul.
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' if c.is_alphanumeric() => Kind::Dense,
        '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' => {
            Kind::Dense
        }
        '\u{ac00}'..='\u{d7a3}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}' => Kind::Dense,
        _ if c.is_alphanumeric() => Kind::Letters,
        _ => Kind::Between,
    }
}

fn runs(text: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (from, c) in text.char_indices() {
        let (kind, to) = (kind_of(narrow(c)), from + c.len_utf8());
        match runs.last_mut() {
            Some(run) if run.kind == kind => run.to = to,
            _ => runs.push(Run { kind, from, to }),
        }
    }
    runs
}

/// All that a text can be found by: each word that the dictionary knows, wherever it begins, and each character of a script without
/// spaces; of other scripts, the words.
pub fn words_of_text(text: &str) -> Vec<Word> {
    words(text, |run, from, at, out| {
        let chars: Vec<(usize, char)> = run.char_indices().collect();
        let single = chars.iter().enumerate().map(|(nth, (byte, c))| Word {
            text: c.to_string(),
            at: at + nth,
            from: from + byte,
            to: from + byte + c.len_utf8(),
        });
        out.extend(single);
        if run.chars().any(is_han) {
            let known = DICTIONARY.cut_all(run).into_iter().filter(|word| word.end - word.start > 1).map(|word| Word {
                text: word.word.to_owned(),
                at: at + word.start,
                from: from + word.byte_start,
                to: from + word.byte_end,
            });
            out.extend(known);
        }
        chars.len()
    })
}

/// The words of what is looked for: each character once, in the longest words that make sense.
pub fn words_of_query(text: &str) -> Vec<Word> {
    words(text, |run, from, at, out| {
        let (mut byte, mut nth) = (0, 0);
        let mut push = |word: &str, at_byte: usize, chars: usize| {
            out.push(Word {
                text: word.to_owned(),
                at: at + nth,
                from: from + at_byte,
                to: from + at_byte + word.len(),
            });
            nth += chars;
        };
        let cut: Vec<&str> = if run.chars().any(is_han) {
            // Without the guessing of words that no dictionary has: it guesses another way in another context.
            DICTIONARY.cut(run, false).into_iter().map(|word| word.word).collect()
        } else {
            vec![run]
        };
        for word in cut {
            let chars = word.chars().count();
            if chars > 1 && is_known(word) {
                push(word, byte, chars);
            } else {
                for (at_byte, c) in word.char_indices() {
                    push(&word[at_byte..at_byte + c.len_utf8()], byte + at_byte, 1);
                }
            }
            byte += word.len();
        }
        nth
    })
}

/// Whether a text with this word has it among its words.
fn is_known(word: &str) -> bool {
    word.chars().all(is_han) && DICTIONARY.has_word(word)
}

fn is_han(c: char) -> bool {
    matches!(c, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// `dense` takes the words of a run, its first byte and its place, and says how many places it takes up.
fn words(text: &str, dense: impl Fn(&str, usize, usize, &mut Vec<Word>) -> usize) -> Vec<Word> {
    let (mut out, mut at) = (Vec::new(), 0);
    let mut before = "";
    for Run { kind, from, to } in runs(text) {
        let run = &text[from..to];
        match kind {
            Kind::Dense => at += dense(run, from, at, &mut out),
            // The end of "customer's".
            Kind::Letters if matches!(before, "'" | "’") && matches!(run, "s" | "S") => {}
            Kind::Letters => {
                out.push(Word { text: of_letters(run), at, from, to });
                at += 1;
            }
            Kind::Between => {}
        }
        before = run;
    }
    out
}

fn of_letters(run: &str) -> String {
    let lower = run.chars().map(narrow).flat_map(char::to_lowercase);
    stem(lower.take(WORD_CHARS_MAX).collect())
}

/// Takes the commonest endings from an English word, so that "refunds", "refunded" and "refund" are one. What it makes need not be a word.
fn stem(mut word: String) -> String {
    if word.len() < STEM_LETTERS_MIN || !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return word;
    }
    let cut = |word: &mut String, count: usize| word.truncate(word.len() - count);
    if word.ends_with("ies") || word.ends_with("ied") {
        cut(&mut word, 3);
        word.push('y');
        return word;
    }
    if ["sses", "xes", "ches", "shes", "zes"].iter().any(|end| word.ends_with(end)) {
        cut(&mut word, 2);
    } else if word.ends_with('s') && !["ss", "us", "is"].iter().any(|end| word.ends_with(end)) {
        cut(&mut word, 1);
    }
    for end in ["ing", "ed"] {
        let Some(rest) = word.strip_suffix(end) else { continue };
        if rest.len() < 3 || !rest.bytes().any(|byte| b"aeiouy".contains(&byte)) {
            continue;
        }
        cut(&mut word, end.len());
        let bytes = word.as_bytes();
        let (last, is_double) = (bytes[bytes.len() - 1], bytes[bytes.len() - 1] == bytes[bytes.len() - 2]);
        if is_double && !b"aeioulsz".contains(&last) {
            cut(&mut word, 1);
        }
        break;
    }
    if word.len() >= STEM_LETTERS_MIN && word.ends_with('e') {
        cut(&mut word, 1);
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn texts(words: Vec<Word>) -> Vec<String> {
        words.into_iter().map(|word| word.text).collect()
    }

    #[test]
    fn chinese_is_cut_into_words_and_english_into_stems() {
        assert_eq!(texts(words_of_query("我想申请退款")), ["我", "想", "申请", "退款"]);
        assert_eq!(
            texts(words_of_query("Refunds for two parcels, please")),
            ["refund", "for", "two", "parcel", "pleas"]
        );
        assert_eq!(texts(words_of_query("ＯＲＤＥＲ　Ａ１２３ 的customer's")), ["order", "a123", "的", "customer"]);
        assert_eq!(texts(words_of_query("  ,.!？ ")), [""; 0]);
        let found: BTreeSet<String> = texts(words_of_text("中华人民共和国")).into_iter().collect();
        for word in ["中", "国", "中华", "人民", "共和国", "中华人民共和国"] {
            assert!(found.contains(word), "{word}: {found:?}");
        }
    }

    #[test]
    fn a_word_says_where_it_stands_in_the_text() {
        let text = "Hi, 申请退款!";
        for word in words_of_text(text).iter().chain(&words_of_query(text)) {
            assert_eq!(text[word.from..word.to].to_lowercase(), word.text);
        }
        let places: Vec<(String, usize)> = words_of_query(text).into_iter().map(|word| (word.text, word.at)).collect();
        assert_eq!(places, [("hi".into(), 0), ("申请".into(), 1), ("退款".into(), 3)]);
    }

    #[test]
    fn forms_of_an_english_word_are_one() {
        for forms in [
            &["refund", "refunds", "refunded", "refunding", "Refund", "REFUNDS"][..],
            &["delivery", "deliveries"],
            &["charge", "charges", "charged", "charging"],
            &["stop", "stopped", "stopping", "stops"],
            &["box", "boxes"],
            &["try", "tried", "tries"],
        ] {
            let stems: BTreeSet<String> = forms.iter().map(|form| of_letters(form)).collect();
            assert_eq!(stems.len(), 1, "{stems:?}");
        }
        for word in ["this", "bus", "glass", "sing", "red", "a1s", "日本"] {
            assert_eq!(of_letters(word), word);
        }
    }

    #[test]
    fn whatever_stands_in_a_text_is_found_by_it() {
        let texts = [
            "和尚未结婚的人一起去北京大学生活动中心，订单号码是A123，谢谢！",
            "南京市长江大桥的快递员说今天下雨天留客天留我不留",
            "请问 iPhone15手机壳 有货吗？我要买3个，ありがとう 감사합니다",
            "工信处女干事每月经过下属科室都要亲口交代24口交换机等技术性器件的安装工作",
        ];
        for text in texts {
            let all: BTreeSet<String> = words_of_text(text).into_iter().map(|word| word.text).collect();
            let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            for (nth, from) in ends.iter().enumerate() {
                for to in &ends[nth + 1..] {
                    let part = &text[*from..*to];
                    // A part of a word of letters is another word.
                    let is_cut = |at: usize| {
                        let is_letter = |c: char| kind_of(narrow(c)) == Kind::Letters;
                        text[..at].chars().next_back().is_some_and(is_letter)
                            && text[at..].chars().next().is_some_and(is_letter)
                    };
                    if is_cut(*from) || is_cut(*to) {
                        continue;
                    }
                    for word in words_of_query(part) {
                        assert!(all.contains(&word.text), "{} of {part} in {text}", word.text);
                    }
                }
            }
        }
    }
}
