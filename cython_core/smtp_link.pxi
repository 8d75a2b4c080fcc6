# What happens with every piece of input of an SMTP connection: to the session, its output to the transport, the deadline.
#
# All else of a connection (how it begins and ends, back pressure, TLS) is the subclass's,
# spinrt.mail.smtp.connection.Connection.

cdef object PHASE_RECEIVER = Phase.RECEIVER


cdef class SmtpLink:
    """One connection between its transport and its session.

    Attributes:
        deadline: When the session is to be timed out, by ``clock``. A command's moves only when a command was completed:
            single octets do not keep a session alive.
    """

    cdef public double deadline
    cdef public SmtpStream _engine
    cdef public object _transport
    cdef public bint _paused
    cdef public bint _choked    # the peer does not read
    cdef public bint _peer_done
    cdef public object _upgrade
    cdef object clock
    cdef object limits
    cdef object phase
    cdef Py_ssize_t steps
    cdef double message_deadline

    def __init__(self, object clock, object limits):
        """``clock`` gives seconds; ``limits`` has the time-outs (spinrt.mail.smtp.limits.SmtpLimits)."""
        self.clock = clock
        self.limits = limits
        self.deadline = float("inf")
        self.phase = PHASE_CLOSED
        self.steps = -1

    def data_received(self, data):
        """Called by the transport. While a handshake runs this was encrypted, and came together with its end."""
        if self._upgrade is not None:
            self._receive_early(data)
            return
        self._engine.receive(data)
        self.flush()

    def _flush(self):
        """Send what the session says and do what its phase asks. Before a handshake is done nothing is sent."""
        if self._upgrade is None:
            self.flush()

    cdef int flush(self) except -1:
        cdef SmtpStream engine = self._engine
        cdef object phase
        if engine._output:
            self._transport.write(engine.take_output())
        phase = engine.phase
        if phase is PHASE_CLOSED or (self._peer_done and phase is not PHASE_RECEIVER):
            self._hang_up()
        elif phase is PHASE_TLS:
            self._start_tls()
        else:
            self.set_deadline(engine, phase)
            if self._paused or (phase is PHASE_RECEIVER and (self._choked or PyBytes_GET_SIZE(engine._input))):
                self._adjust_reading()
        return 0

    cdef int set_deadline(self, SmtpStream engine, object phase) except -1:
        cdef double now
        cdef bint moved = phase is not self.phase or engine.steps != self.steps
        if phase is PHASE_CONTENT:
            now = self.clock()
            if moved:
                self.message_deadline = now + <double>self.limits.message_timeout_s
            self.deadline = min(now + <double>self.limits.data_timeout_s, self.message_deadline)
        elif moved and phase is PHASE_COMMAND:
            self.deadline = <double>self.clock() + <double>self.limits.command_timeout_s
        elif moved:
            self.deadline = <double>self.clock() + <double>self.limits.delivery_timeout_s
        self.phase = phase
        self.steps = engine.steps
        return 0

    # ------------------------------------------------------------------------------------------- for the subclass

    def _receive_early(self, data):
        """Input came before the handshake was known to be done."""
        raise NotImplementedError

    def _hang_up(self):
        """The session is over; the output was handed to the transport."""
        raise NotImplementedError

    def _start_tls(self):
        """Begin the handshake."""
        raise NotImplementedError

    def _adjust_reading(self):
        """Pause or resume reading."""
        raise NotImplementedError
