//! Owns every limit of the rules. Does not enforce them. Invariant: replicas of one cluster agree on them; changing one
//! that refuses commands needs a new shard version.

/// A message's text, bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// So long may an author give a message another text, in milliseconds.
pub const EDIT_WITHIN_MS: u64 = 900_000;
/// So long may an author take a message back, in milliseconds.
pub const RECALL_WITHIN_MS: u64 = 120_000;
/// Agents that one note mentions.
pub const MENTIONS_MAX: usize = proto::client::limits::MENTIONS_MAX;
/// Mentions that an agent has not seen to; the oldest goes first.
pub const MENTIONS_PER_AGENT_MAX: usize = 100;
/// A reaction, bytes of UTF-8.
pub const EMOJI_BYTES_MAX: usize = proto::client::limits::EMOJI_BYTES_MAX;
/// A label, bytes of UTF-8.
pub const LABEL_BYTES_MAX: usize = proto::client::limits::LABEL_BYTES_MAX;
/// Labels of one conversation.
pub const LABELS_MAX: usize = 32;
/// Why a conversation was closed, bytes of UTF-8.
pub const REASON_BYTES_MAX: usize = proto::client::limits::REASON_BYTES_MAX;
/// How good a conversation was, at best.
pub const SCORE_MAX: u8 = proto::client::limits::SCORE_MAX;
/// Why it was so, bytes of UTF-8.
pub const COMMENT_BYTES_MAX: usize = proto::client::limits::COMMENT_BYTES_MAX;
/// The name of an attribute, bytes of UTF-8.
pub const ATTRIBUTE_NAME_BYTES_MAX: usize = proto::client::limits::ATTRIBUTE_NAME_BYTES_MAX;
/// The value of an attribute, bytes of UTF-8.
pub const ATTRIBUTE_BYTES_MAX: usize = proto::client::limits::ATTRIBUTE_BYTES_MAX;
/// Attributes of a visitor, and of a conversation.
pub const ATTRIBUTES_MAX: usize = 32;
/// Events that one command erases.
pub const ERASE_EVENTS_MAX: usize = 1_000;
/// Events of one object of the archive.
pub const ARCHIVE_EVENTS_MAX: usize = 1_000;
/// Ranges that the archive has of one session. Half of them are kept for what retention cuts off.
pub const ARCHIVE_RANGES_MAX: usize = 128;
/// So long may a conversation be laid aside, in milliseconds.
pub const SNOOZE_MS_MAX: u64 = 366 * 86_400_000;
/// Triggers of a site.
pub const TRIGGERS_MAX: usize = 100;
/// Triggers that have spoken to a visitor: those that are no more count, too.
pub const PROMPTS_MAX: usize = 256;
/// The name of a trigger, and of whom it speaks as, bytes of UTF-8.
pub const PROMPT_NAME_BYTES_MAX: usize = 64;
/// Between what two triggers say to a visitor, in milliseconds.
pub const PROMPT_PAUSE_MS: u64 = 30_000;
/// A visitor who writes within this time has answered what a trigger said, in milliseconds.
pub const PROMPT_ANSWER_MS: u64 = 86_400_000;
/// So long may an invitation be open, in milliseconds.
pub const INVITE_MS_MAX: u64 = 3_600_000;
/// Invitations to one visitor within a day.
pub const INVITES_PER_DAY_MAX: usize = 5;
/// A visitor who declined is not invited for so long, in milliseconds.
pub const DECLINED_MS: u64 = 3_600_000;
/// Files of one message.
pub const ATTACHMENTS_PER_MESSAGE_MAX: usize = proto::client::limits::ATTACHMENTS_PER_MESSAGE_MAX;
/// One file, in bytes.
pub const ATTACHMENT_BYTES_MAX: u64 = proto::client::limits::ATTACHMENT_BYTES_MAX as u64;
/// The small image of one, in bytes.
pub const ATTACHMENT_THUMBNAIL_BYTES_MAX: u64 = 1 << 20;
/// The name of a file, bytes of UTF-8.
pub const ATTACHMENT_NAME_BYTES_MAX: usize = proto::client::limits::ATTACHMENT_NAME_BYTES_MAX;
/// Files that are uploaded into one session within a day (UTC).
pub const ATTACHMENT_DAY_FILES_MAX: u64 = 100;
/// Their bytes.
pub const ATTACHMENT_DAY_BYTES_MAX: u64 = 200 << 20;
/// Files that a site keeps in all; each shard has its share.
pub const ATTACHMENT_SITE_FILES_MAX: u64 = 1_000_000;
/// Their bytes.
pub const ATTACHMENT_SITE_BYTES_MAX: u64 = 64 << 30;
/// A file that no message has named for so long goes, in milliseconds.
pub const ATTACHMENT_UNSENT_MS: u64 = 86_400_000;
/// Such files that one command removes, at most; the rest waits for the next.
pub const UNSENT_PER_COMMAND_MAX: usize = 32;
/// A client's own message id, bytes of UTF-8.
pub const CID_BYTES_MAX: usize = 64;
/// The name of a client's device, bytes of UTF-8.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Token hashes kept per session and per agent; the oldest goes first.
pub const TOKENS_MAX: usize = 16;
/// Proofs of who a visitor is that are remembered per session; the oldest goes first.
pub const PROOFS_MAX: usize = 32;
/// Sessions that were merged into one; of more, the oldest is named there no longer.
pub const MERGED_MAX: usize = 256;
/// So long after its first use may a proof open a session again, in milliseconds: the first answer may have been lost.
pub const PROOF_AGAIN_MS: u64 = 60_000;
/// Devices that ever sent in one session. Each keeps one row for ever.
pub const DEVICES_PER_SESSION_MAX: u32 = 65_536;

/// Open conversations of one agent; the desk gives no more.
pub const OPEN_MAX_PER_AGENT: u32 = 10_000;
/// Agents on a site's roster; the least recently busy one that is offline and has nothing open goes first.
pub const AGENTS_PER_SITE_MAX: usize = 10_000;
/// Assignments that one command may cause; the rest waits for the desk's wake-up mail to itself.
pub const ASSIGN_PER_COMMAND_MAX: usize = 256;
/// Teams of a site.
pub const TEAMS_PER_SITE_MAX: usize = 1_000;
/// Teams of a seat.
pub const TEAMS_PER_SEAT_MAX: usize = 64;
/// Routes of a site.
pub const ROUTES_PER_SITE_MAX: usize = 256;
/// Kinds of conversations that wait apart, by team, priority, channel and skills; beyond it those of a team and channel wait together.
pub const LANES_PER_SITE_MAX: usize = 4_096;
/// The highest number of a channel.
pub const CHANNEL_MAX: u8 = proto::desk::Channel::NAMES.len() as u8 - 1;
/// Conversations offered to one agent at once.
pub const OFFERS_PER_SEAT_MAX: usize = 16;
/// The longest that an agent may think about an offer, in milliseconds.
pub const ACCEPT_MS_MAX: u32 = 3_600_000;
/// An agent without a socket for so long loses open conversations to the queue, unless the site says otherwise, in milliseconds.
pub const REQUEUE_MS: u64 = 180_000;
/// A conversation that its only agents declined is offered to them again after this time at the latest, in milliseconds.
pub const ASIDE_MS_MAX: u64 = 5_000;
/// Skills and channels of a seat, and skills that a conversation asks for.
pub const SKILLS_MAX: usize = 32;
/// Stretches and days of a site's hours.
pub const HOURS_MAX: usize = 1_000;
/// Minutes of a day.
pub const DAY_MINUTES: u16 = 1_440;
/// The last date that hours can name, `YYYYMMDD`.
pub const DATE_MAX: u32 = 99_991_231;
/// Facts of a conversation, conditions of a route, and values of a condition.
pub const FACTS_MAX: usize = proto::client::limits::FACTS_MAX;
/// The name of a fact, in bytes of UTF-8.
pub const FACT_NAME_BYTES_MAX: usize = proto::client::limits::FACT_NAME_BYTES_MAX;
/// The value of a fact, in bytes of UTF-8.
pub const FACT_BYTES_MAX: usize = proto::client::limits::FACT_BYTES_MAX;
/// Names of teams, skills and facts, and values of conditions, bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 256;
/// What is due that one command does; the rest waits for the next.
pub const DUE_PER_COMMAND_MAX: usize = 256;
/// Rows of the waiting queue read at once.
pub const QUEUE_ROWS_PER_READ: usize = 256;

/// Events that the feed of a shard keeps for those who have not heard of them.
pub const FEED_KEPT: u64 = 1_000_000;
/// Entries of the feed in one row.
pub const FEED_BLOCK: u64 = 256;
/// Entries of the feed that one read looks at.
pub const FEED_SCAN_MAX: usize = 2_000;
/// Events in one block row.
pub const BLOCK_EVENTS_MAX: u64 = 64;
/// Bytes of events in one block row; a single larger event has a block of its own.
pub const BLOCK_BYTES_MAX: usize = 16 << 10;
/// A checkpoint seals an open block from this many events on, so that slow conversations don't rewrite 64 events
/// for each new one.
pub const BLOCK_SEAL_EVENTS: u64 = 16;
/// As `BLOCK_SEAL_EVENTS`, in bytes.
pub const BLOCK_SEAL_BYTES: usize = 4 << 10;
/// Newest events kept in memory while a session is cached.
pub const WINDOW_EVENTS: usize = 64;
/// As `WINDOW_EVENTS`, in bytes.
pub const WINDOW_BYTES: usize = 16 << 10;

/// Numbered sends whose seqs share one page row.
pub const PAGE_SENDS: u64 = 32;
/// Written devices kept in memory per session.
pub const DEVICES_CACHED_MAX: usize = 64;
/// Written unnumbered message ids kept in memory per device.
pub const CIDS_CACHED_MAX: usize = 128;
/// Written pages kept in memory per device.
pub const PAGES_CACHED_MAX: usize = 1;
/// Written outbox mails kept in memory per target shard.
pub const MAILS_CACHED_MAX: usize = 4_096;
/// Events that are looked at for what became of a conversation since the caller looked; older ones count as seen.
pub const SEEN_LOOK_MAX: u64 = 1_000;

/// Sessions of one shard that lag behind one webhook; with so many, it waits for them.
pub const WEBHOOK_LAGS_MAX: usize = 256;
/// Dead letters of one webhook in one shard; the oldest goes first.
pub const WEBHOOK_DEAD_MAX: usize = 256;
/// How a delivery failed, bytes of UTF-8.
pub const WEBHOOK_WHY_BYTES_MAX: usize = 128;

/// Entries of an audit chain that are kept; the oldest goes first.
pub const AUDIT_KEPT: u64 = 1_000_000;
/// The newest acts of a chain, by which one that is proposed again is known.
pub const AUDIT_SEEN_MAX: usize = 256;
/// What an audit entry says of who, whence and how, each, bytes of UTF-8.
pub const AUDIT_TEXT_BYTES_MAX: usize = 256;
/// What an act was about, bytes of UTF-8.
pub const AUDIT_TARGET_BYTES_MAX: usize = 1_024;

/// Things of one kind that a site keeps for its people.
pub const SHELF_ITEMS_MAX: u64 = 1_000;
/// All of them, in bytes.
pub const SHELF_BYTES_MAX: u64 = 1 << 20;
/// One of them, in bytes.
pub const SHELF_ITEM_BYTES_MAX: usize = 16 << 10;
/// The name of one, bytes of UTF-8.
pub const SHELF_NAME_BYTES_MAX: usize = 128;

/// Hours that roll-ups are kept: 400 days.
pub const ROLLUP_HOURS_KEPT: u32 = 400 * 24;
/// Labels of a site that have figures of their own in one hour of one shard; further ones are counted together.
pub const ROLLUP_LABELS_MAX: u64 = 256;
/// Roll-ups that one command removes; the rest waits for the next.
pub const ROLLUP_SWEEP_MAX: usize = 512;
/// Sites whose roll-ups are swept by one command.
pub const SWEEPS_PER_COMMAND_MAX: usize = 2;
/// So long after an hour are old roll-ups looked for, in milliseconds.
pub const ROLLUP_SWEEP_AFTER_MS: u64 = 60_000;
/// An agent's time is counted after so long at the latest, in milliseconds, so that no command counts more than that.
pub const STINT_MS_MAX: u64 = 7 * 86_400_000;
/// E-mails of one shard that wait or are dead; what is found while there are so many is counted and not sent.
pub const EMAILS_MAX: usize = 10_000;
/// Of one site in a shard.
pub const EMAILS_OF_SITE_MAX: usize = 8_000;
/// Events that one step may say are to be e-mailed.
pub const EMAIL_FOUND_MAX: usize = 1_000;
/// Transcripts that a visitor may have sent in an hour.
pub const EMAIL_ASKS_PER_HOUR_MAX: usize = 3;
/// Transcripts of one session that everybody together may have sent in an hour.
pub const EMAIL_ASKS_UNLIMITED_MAX: usize = 20;
/// An address, bytes. Source: RFC 5321, section 4.5.3.1.3, less the brackets.
pub const EMAIL_ADDRESS_BYTES_MAX: usize = 254;
/// How a delivery failed, bytes of UTF-8.
pub const EMAIL_WHY_BYTES_MAX: usize = 256;
/// What proves who clicks on an address in an e-mail, bytes.
pub const EMAIL_SECRET_BYTES: usize = 16;
