/** ServerEvent is one event of a stream. */
export interface ServerEvent {
  id: string;
  type: string;
  data: string;
}

/** No line of ours is that long: whatever sends more is not the master. */
const longest = 1 << 20;

/**
 * EventParser reads text/event-stream by the rules of the HTML standard. EventSource cannot send a token, so the stream is read with fetch.
 */
export class EventParser {
  /** The last id that was seen, to resume after. Comments ": from N" and ": N" move it, too: they say how far the master has told everything. */
  lastId = '';
  private rest = '';
  private type = '';
  private data: string[] = [];

  /** push takes a piece of the stream, cut anywhere, and returns the events that it ends. */
  push(text: string): ServerEvent[] {
    this.rest += text;
    if (this.rest.length > longest) throw new Error('the event stream sent a line without an end');
    const events: ServerEvent[] = [];
    // A CR at the end may be half of a CRLF: it waits.
    for (let m = /\r\n|\n|\r(?!$)/.exec(this.rest); m; m = /\r\n|\n|\r(?!$)/.exec(this.rest)) {
      const event = this.line(this.rest.slice(0, m.index));
      if (event) events.push(event);
      this.rest = this.rest.slice(m.index + m[0].length);
    }
    return events;
  }

  private line(line: string): ServerEvent | undefined {
    if (line === '') {
      const event = { id: this.lastId, type: this.type || 'message', data: this.data.join('\n') };
      const empty = this.data.length === 0;
      this.type = '';
      this.data = [];
      return empty ? undefined : event;
    }
    const colon = line.indexOf(':');
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '');
    switch (field) {
      case '':
        this.lastId = /^(?:from )?(\d+)$/.exec(value)?.[1] ?? this.lastId;
        break;
      case 'id':
        if (!value.includes('\0')) this.lastId = value;
        break;
      case 'event':
        this.type = value;
        break;
      case 'data':
        this.data.push(value);
    }
    return undefined;
  }
}
