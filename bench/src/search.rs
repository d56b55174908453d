//! Owns the measurement of searches: an index of its own, filled with made-up talk, and how long queries take in it. Does not go through a
//! node. Invariant: the same seed makes the same talk and the same queries.

use std::time::{Duration, Instant};

use crate::dice::Dice;
use anyhow::Context;
use hdrhistogram::Histogram;
use node::search::{Index, Progress, Said, Search, Wanted};
use proto::ids::{SessionId, SiteId};
use proto::search::{SaidBy, SearchPlace};

use crate::figures::round;

/// What to measure of searches.
#[derive(Debug, Clone, clap::Args)]
pub struct SearchArgs {
    /// Fill one index with so many messages, Chinese and English, and measure queries of several kinds.
    #[arg(long, value_name = "MESSAGES")]
    search: Option<u64>,
    /// With `--search`: queries of each kind.
    #[arg(long, default_value_t = 500, value_name = "COUNT")]
    search_queries: usize,
}

const SITE: SiteId = SiteId(1);
/// Messages of one session.
const SESSION_MESSAGES: u64 = 20;
/// Words that are ever said in one language.
const VOCABULARY: usize = 40_000;
/// Words of one message.
const WORDS_MIN: u64 = 6;
const WORDS_MORE: u64 = 14;
/// Between two commits, as a node does when much comes at once.
const COMMIT_EVERY: u64 = 20_000;
/// Hits of one query.
const LIMIT: usize = 20;
/// Ranks of words: of the commonest, and from which on they are rare.
const COMMON: usize = 20;
const RARE_FROM: usize = 5_000;

const CHINESE: [&str; 48] = [
    "的", "我", "你", "了", "是", "请问", "订单", "退款", "什么", "时候", "可以", "谢谢", "没有", "收到", "快递",
    "已经", "客服", "商品", "发货", "申请", "付款", "地址", "修改", "取消", "优惠", "价格", "质量", "问题", "包裹",
    "物流", "帮忙", "查询", "今天", "明天", "昨天", "还是", "这个", "那个", "怎么", "支付", "账户", "密码", "手机",
    "号码", "颜色", "尺寸", "换货", "发票",
];
const ENGLISH: [&str; 48] = [
    "the",
    "i",
    "you",
    "to",
    "my",
    "is",
    "order",
    "refund",
    "please",
    "when",
    "parcel",
    "thanks",
    "have",
    "not",
    "delivery",
    "received",
    "account",
    "password",
    "address",
    "change",
    "cancel",
    "price",
    "shipping",
    "payment",
    "card",
    "charged",
    "twice",
    "today",
    "tomorrow",
    "yesterday",
    "still",
    "waiting",
    "problem",
    "quality",
    "size",
    "color",
    "return",
    "exchange",
    "invoice",
    "phone",
    "number",
    "help",
    "check",
    "status",
    "late",
    "broken",
    "missing",
    "wrong",
];

/// Words of two languages; the one of rank `n` comes about 1/n as often as the first.
struct Talk {
    chinese: Vec<String>,
    english: Vec<String>,
    /// Sums of 1/n.
    weights: Vec<f64>,
    dice: Dice,
}

impl Talk {
    fn new(seed: u64) -> Talk {
        let mut dice = Dice(seed);
        let mut chinese: Vec<String> = CHINESE.map(str::to_owned).to_vec();
        let mut english: Vec<String> = ENGLISH.map(str::to_owned).to_vec();
        while chinese.len() < VOCABULARY {
            // Two of the 3,000 characters after the first of Unicode's block: names, products, what no dictionary has.
            let word: String = (0..2).filter_map(|_| char::from_u32(0x4e00 + dice.below(3_000) as u32)).collect();
            chinese.push(word);
        }
        while english.len() < VOCABULARY {
            let syllables = 2 + dice.below(3);
            let syllable = |dice: &mut Dice| {
                let pick = |of: &'static [u8], dice: &mut Dice| char::from(of[dice.below(of.len() as u64) as usize]);
                [pick(b"bcdfghklmnprstvz", dice), pick(b"aeiou", dice)]
            };
            english.push((0..syllables).flat_map(|_| syllable(&mut dice)).collect());
        }
        let mut sum = 0.0;
        let weights = (1..=VOCABULARY).map(|rank| {
            sum += 1.0 / rank as f64;
            sum
        });
        Talk { chinese, english, weights: weights.collect(), dice }
    }

    fn rank(&mut self) -> usize {
        let total = self.weights.last().copied().unwrap_or(1.0);
        let at = self.dice.next() as f64 / u64::MAX as f64 * total;
        self.weights.partition_point(|weight| *weight < at).min(VOCABULARY - 1)
    }

    /// Half of them Chinese, and one in ten of both.
    fn message(&mut self) -> String {
        let (kind, count) = (self.dice.below(20), WORDS_MIN + self.dice.below(WORDS_MORE));
        let mut text = String::new();
        for nth in 0..count {
            let rank = self.rank();
            let is_chinese = if kind < 2 { nth % 2 == 0 } else { kind < 11 };
            if is_chinese {
                text.push_str(&self.chinese[rank]);
                if self.dice.below(6) == 0 {
                    text.push('，');
                }
            } else {
                text.push_str(&self.english[rank]);
                text.push(' ');
            }
        }
        text
    }

    fn common(&mut self, is_chinese: bool) -> String {
        // The first ones are words that nobody looks for.
        self.word(is_chinese, 5 + self.dice.0 as usize % (COMMON - 5))
    }

    fn rare(&mut self, is_chinese: bool) -> String {
        let rank = RARE_FROM + self.dice.below((VOCABULARY - RARE_FROM) as u64) as usize;
        self.word(is_chinese, rank)
    }

    fn word(&mut self, is_chinese: bool, rank: usize) -> String {
        self.dice.next();
        if is_chinese { self.chinese[rank].clone() } else { self.english[rank].clone() }
    }

    /// What somebody types.
    fn query(&mut self, kind: &str, nth: usize) -> String {
        let is_chinese = kind.starts_with("Chinese") || kind.starts_with("both") && nth.is_multiple_of(2);
        let gap = if is_chinese { "" } else { " " };
        match kind.rsplit(' ').next().unwrap_or_default() {
            "commonest" => self.word(is_chinese, 0),
            "common" => self.common(is_chinese),
            "rare" => self.rare(is_chinese),
            "mixed" => format!("{}{gap}{}", self.common(is_chinese), self.rare(is_chinese)),
            "two" => format!("{}{gap}{}", self.common(is_chinese), self.common(is_chinese)),
            "phrase" => format!("\"{}{gap}{}\"", self.common(is_chinese), self.common(is_chinese)),
            "languages" => format!("{} {}", self.common(true), self.common(false)),
            _ => String::new(),
        }
    }
}

const KINDS: [&str; 14] = [
    "Chinese, rare",
    "Chinese, common",
    "Chinese, commonest",
    "Chinese, mixed",
    "Chinese, two",
    "Chinese, phrase",
    "English, rare",
    "English, common",
    "English, commonest",
    "English, mixed",
    "English, two",
    "English, phrase",
    "both languages",
    "no words",
];

impl SearchArgs {
    pub fn is_asked(&self) -> bool {
        self.search.is_some()
    }
}

/// # Errors
/// The index cannot be written or read.
pub fn run(args: &SearchArgs) -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (index, _) = Index::open(dir.path(), "bench")?;
    let mut talk = Talk::new(0x5eed);
    let messages = args.search.unwrap_or_default();
    fill(&index, &mut talk, messages)?;
    let bytes: u64 =
        std::fs::read_dir(dir.path())?.flatten().filter_map(|file| Some(file.metadata().ok()?.len())).sum();
    println!("{messages} messages: {} MiB of index", bytes >> 20);
    let mut all = Histogram::<u64>::new(3)?;
    for kind in KINDS {
        let (took, found) = measure(&index, &mut talk, kind, args.search_queries)?;
        print_line(kind, &took, Some(found as f64 / args.search_queries.max(1) as f64));
        all.add(&took)?;
    }
    print_line("all", &all, None);
    let again = Instant::now();
    drop(index);
    Index::open(dir.path(), "bench")?;
    println!("opened again, check sums and all, in {:.2} s", again.elapsed().as_secs_f64());
    Ok(())
}

/// Writes the messages as a node does, one commit after the other.
fn fill(index: &Index, talk: &mut Talk, messages: u64) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut making = Duration::ZERO;
    let mut writer = index.writer()?;
    for number in 1..=messages {
        let making_from = Instant::now();
        let text = talk.message();
        making += making_from.elapsed();
        let session =
            SessionId(u128::from(number / SESSION_MESSAGES).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
        let seq = number % SESSION_MESSAGES + 1;
        let place = SearchPlace { ts_ms: 1_790_000_000_000 + number * 37, session, seq };
        let by = if number.is_multiple_of(2) { SaidBy::Visitor } else { SaidBy::Agent };
        writer.put(&Said { site: SITE, place, text_seq: seq, by, text: text.into() }, false)?;
        if number.is_multiple_of(COMMIT_EVERY) || number == messages {
            writer.commit(Progress::Feed { after: number, again: 0 })?;
        }
    }
    let filled = started.elapsed().saturating_sub(making);
    writer.finish()?;
    index.reload()?;
    let rate = messages as f64 / filled.as_secs_f64().max(f64::EPSILON);
    println!(
        "filled in {:.1} s ({rate:.0} messages/s), merged after {:.1} s",
        filled.as_secs_f64(),
        started.elapsed().saturating_sub(making).as_secs_f64()
    );
    Ok(())
}

fn measure(index: &Index, talk: &mut Talk, kind: &str, queries: usize) -> anyhow::Result<(Histogram<u64>, usize)> {
    let mut took = Histogram::<u64>::new(3)?;
    let mut found = 0;
    for nth in 0..queries {
        let text = talk.query(kind, nth);
        let started = Instant::now();
        let wanted = Wanted::read(&text).with_context(|| text.clone())?;
        let search = Search {
            site: SITE,
            wanted: wanted.as_ref(),
            by: None,
            from_ms: None,
            to_ms: None,
            after: None,
            limit: LIMIT,
        };
        found += index.search(&search)?.len();
        took.record((started.elapsed().as_micros() as u64).max(1))?;
    }
    Ok((took, found))
}

fn print_line(kind: &str, took: &Histogram<u64>, hits: Option<f64>) {
    let ms = |quantile| round(took.value_at_quantile(quantile) as f64 / 1e3, 2);
    let max = round(took.max() as f64 / 1e3, 2);
    let hits = hits.map_or_else(String::new, |hits| format!("   {hits:>5.1} of {LIMIT} hits"));
    println!("{kind:<20} p50 {:>7}  p99 {:>7}  max {max:>7} ms{hits}", ms(0.5), ms(0.99));
}
