# The octet side of an SMTP session: input cut into lines and content, lines taken apart and looked up, output collected.
#
# What commands mean is the subclass's, spinrt.mail.smtp.state.Engine. It overrides the methods that raise
# NotImplementedError here, and fills ``_table``: state × command → (handler, next state).

class Phase(_Enum):
    """What a session waits for; time-outs go by it."""

    COMMAND = 1
    CONTENT = 2
    RECEIVER = 3
    TLS = 4
    CLOSED = 5


cdef object PHASE_COMMAND = Phase.COMMAND
cdef object PHASE_CONTENT = Phase.CONTENT
cdef object PHASE_TLS = Phase.TLS
cdef object PHASE_CLOSED = Phase.CLOSED


def _ignore():
    """Stands for the connection when it is gone."""


cdef class SmtpStream:
    """Input and output of one session.

    A line is octets up to CRLF, without control characters, of bounded length. What is none (bare LF, bare CR, NUL, too
    long) is refused, and the next line begins behind its LF.

    Attributes:
        phase: What is waited for. `Phase.TLS`: send the output, then do the handshake. `Phase.CLOSED`: send the output,
            then close.
        steps: Lines so far; the time-out of a command starts anew when it grows.
        last: The reply that closed the session; none when it was closed without one.
        session: What is known of the peer (spinrt.mail.smtp.receiver.Session).
    """

    cdef public object phase
    cdef readonly Py_ssize_t steps
    cdef readonly object last
    cdef readonly bytes _input
    cdef public Py_ssize_t _position
    cdef readonly list _output
    cdef public dict _table
    cdef public object _state
    cdef public object _exchange
    cdef public Transfer _transfer
    cdef public DataDecoder _decoder
    cdef public object _chunk
    cdef public bint _recipient_tried
    cdef public Py_ssize_t _ticket
    cdef readonly object session
    cdef public Py_ssize_t _steps_before
    cdef Py_ssize_t line_bytes_max
    cdef Py_ssize_t commands_max
    cdef bint normalise
    cdef object limits
    cdef object on_output
    cdef bint running
    cdef bint skipping

    def __init__(self, object session, object greeting, object limits, object on_output):
        """Begin with the reply ``greeting``.

        Args:
            limits: ``SmtpLimits``.
            on_output: Called when `_resume` made output or changed the phase.
        """
        self.phase = PHASE_COMMAND
        self.session = session
        self.line_bytes_max = limits.line_bytes_max
        self.commands_max = limits.commands_per_message_max
        self.normalise = limits.normalise_newlines
        self.limits = limits
        self.on_output = on_output
        self._input = b""
        self._output = [greeting.wire]

    # ------------------------------------------------------------------------------------------ for the connection

    def receive(self, bytes data not None):
        """Take octets from the peer. Behind STARTTLS, and once closed, they are dropped."""
        if self.phase is PHASE_CLOSED or self.phase is PHASE_TLS:
            return
        self._input = self._input + data if PyBytes_GET_SIZE(self._input) else data
        self.run()

    def take_output(self):
        """Return what is to be sent, and forget it."""
        cdef list output = self._output
        if not output:
            return b""
        self._output = []
        return output[0] if len(output) == 1 else b"".join(output)

    @property
    def buffered(self):
        """Octets that were received and not looked at yet."""
        return PyBytes_GET_SIZE(self._input)

    def lost(self):
        """The connection is gone: let go of everything; late answers of the receiver are dropped."""
        self._close(None)
        self.on_output = _ignore

    # ------------------------------------------------------------------------------------------- for the subclass

    def _take_chunk(self, chunk):
        """Take octets of a chunk from ``_input`` at ``_position``: at least one, at most all."""
        raise NotImplementedError

    def _end_message(self, transfer):
        """The end of DATA was found."""
        raise NotImplementedError

    def _give_up_message(self):
        """The message is too large by far."""
        raise NotImplementedError

    def _take_response(self, line, exchange):
        """Take one line, without its CRLF, while ``_exchange`` is set."""
        raise NotImplementedError

    def _misplaced(self, verb):
        """Refuse a command that is not in the row of this state."""
        raise NotImplementedError

    def _refuse_line(self, too_long):
        """There was a line that is none: too long, or of the wrong octets."""
        raise NotImplementedError

    def _say(self, answer):
        """Send a reply that refuses."""
        raise NotImplementedError

    def _refuse_storage(self):
        """A handler raised StorageError."""
        raise NotImplementedError

    def _overstep(self):
        """Too many lines without a message."""
        raise NotImplementedError

    def _fail(self):
        """A handler raised something else; called while it is handled."""
        raise NotImplementedError

    def _close(self, last):
        """End the session, with a reply or none: nothing is parsed any more, a message on its way in is dropped."""
        if self.phase is PHASE_CLOSED:
            return
        if last is not None:
            self._output.append(last.wire)
        self.last = last
        self._reset(self._state)
        self.phase = PHASE_CLOSED
        self._input = b""
        self._position = 0

    def _begin_data(self, sink):
        """Take a message into a sink from now on, up to the end of DATA."""
        self._transfer = Transfer(sink, self.limits)
        self._decoder = DataDecoder(normalise=self.normalise)
        self.phase = PHASE_CONTENT

    def _reset(self, state):
        """Drop the transaction. An answer that is still due for it will be ignored."""
        if self._transfer is not None:
            self._transfer.abort()
            self._transfer = None
        self._decoder = None
        self._chunk = self._exchange = None
        self.session.sender = None
        self.session.recipients = []
        self._recipient_tried = False
        self._ticket += 1
        self._state = state
        self.phase = PHASE_COMMAND

    def _resume(self):
        """An answer came: go on with the input, unless it came inside a call of ours."""
        if not self.running:
            self.run()
            self.on_output()

    # ------------------------------------------------------------------------------------------------------- input

    cdef int run(self) except -1:
        """Work through the input as far as it goes."""
        self.running = True
        try:
            while self._position < PyBytes_GET_SIZE(self._input):
                if self.phase is PHASE_COMMAND:
                    if not self.find_line():
                        break
                elif self.phase is PHASE_CONTENT:
                    if self._decoder is not None:
                        self.take_data(self._decoder, self._transfer)
                    else:
                        self._take_chunk(self._chunk)
                else:
                    break
        except Exception:
            self._fail()
        finally:
            self.running = False
        if self._position:
            self._input = self._input[self._position:]
            self._position = 0
        return 0

    cdef int take_data(self, DataDecoder decoder, Transfer transfer) except -1:
        """Take octets of DATA up to its end, or all."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self._input)
        cdef bytes content = decoder.feed(self._input, self._position)
        self._position = size - decoder.rest
        transfer.bare = decoder.bare and not self.normalise
        if PyBytes_GET_SIZE(content):
            transfer.write(content)
        if transfer.is_hopeless():
            self._give_up_message()
        elif decoder.finished:
            self._end_message(transfer)
        return 0

    cdef bint find_line(self) except -1:
        """Take one line from the input; false when it is not all there."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(self._input), start = self._position
        cdef const char *line = PyBytes_AS_STRING(self._input) + start
        cdef const char *lf = <const char *>memchr(line, c'\n', size - start)
        cdef Py_ssize_t length
        if lf == NULL:
            if self.skipping or size - start >= self.line_bytes_max:
                self.skipping = True
                self._position = size
            return False
        length = lf + 1 - line
        self._position = start + length
        self.steps += 1
        if self.skipping or length > self.line_bytes_max:
            self.skipping = False
            self._refuse_line(True)
        elif length < 2 or line[length - 2] != c'\r' or _has_control(line, length - 2):
            self._refuse_line(False)
        elif self._exchange is not None:
            self._take_response(line[:length - 2], self._exchange)
        elif self.steps - self._steps_before > self.commands_max:
            self._overstep()
        else:
            self.take_command(line, length - 2)
        return True

    cdef int take_command(self, const char *line, Py_ssize_t length) except -1:
        """Find the command in the row of this state and run its handler; ``line`` lies in the input."""
        cdef const char *space = <const char *>memchr(line, c' ', length)
        cdef Py_ssize_t verb_length = length if space == NULL else space - line
        cdef Py_ssize_t at = verb_length
        cdef bytes verb = _upper(line, verb_length)
        cdef dict row = self._table[self._state]
        cdef object step = row.get(verb)
        if step is None:
            self._misplaced(verb)
            return 0
        while at < length and (line[at] == c' ' or line[at] == c'\t'):
            at += 1
        while length > at and (line[length - 1] == c' ' or line[length - 1] == c'\t'):
            length -= 1
        try:
            answer = (<tuple>step)[0](self, line[at:length])
        except StorageError:
            self._refuse_storage()
            return 0
        if answer is not None:
            if answer.code < 400:
                self._state = (<tuple>step)[1]
                self._output.append(answer.wire)
            else:
                self._say(answer)
        return 0


cdef inline bint _has_control(const char *text, Py_ssize_t length) noexcept:
    """Whether there is a control character other than a tab."""
    cdef Py_ssize_t index
    cdef unsigned char octet
    for index in range(length):
        octet = <unsigned char>text[index]
        if (octet < 32 and octet != 9) or octet == 127:
            return True
    return False


cdef bytes _upper(const char *text, Py_ssize_t length):
    cdef bytes upper = PyBytes_FromStringAndSize(NULL, length)
    cdef char *out = PyBytes_AS_STRING(upper)
    cdef Py_ssize_t index
    for index in range(length):
        out[index] = text[index] - 32 if c'a' <= text[index] <= c'z' else text[index]
    return upper
