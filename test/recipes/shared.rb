# Two tenants' transactions in turn on few connections, with careless ones between them.
# Arguments: the number of transactions; the most connections that the server may see.
#
# Runs in a folder with the README's files, and tells a line a test.

require "./shop_record"

TENANTS = %w[acme globex].freeze
CLIENTS = 5
TRANSACTIONS, MOST = ARGV.map(&:to_i)

def sqlstate
  yield
  "no error"
rescue ActiveRecord::StatementInvalid => error
  error.cause.result.error_field(PG::PG_DIAG_SQLSTATE)
end

# A transaction of a tenant, which is taken back where it says so; gives what it saw.
def transaction(tenant, number, taken_back)
  seen = nil
  ShopRecord.in_tenant(tenant) do
    pid = ShopRecord.connection.select_value("SELECT pg_backend_pid()")
    Invoice.create!(customer: "rb #{tenant} #{number}", amount: 1)
    sleep(rand / 250)
    seen = [tenant, pid, Invoice.pluck(:tenant_id, :customer)]
    raise ActiveRecord::Rollback if taken_back
  end
  seen
end

def kept(tenant)
  ShopRecord.in_tenant(tenant) { Invoice.where("customer LIKE 'rb %'").count }
end

# A thread's share.  Arguments: the numbers left to do, where to write what was seen and
# what was answered that should not be.
def client(numbers, seen, wrong)
  loop do
    number = numbers.pop(true)
    seen << [*transaction(TENANTS.sample, number, (number % 5).zero?), !(number % 5).zero?]
    state = sqlstate { Invoice.count } if (number % 3).zero?
    wrong << state unless [nil, "LY001"].include?(state)
  end
rescue ThreadError # nothing is left
ensure
  ActiveRecord::Base.connection_handler.clear_active_connections!
end

def tell(holds, name)
  puts(holds ? "ok #{name}" : "not ok #{name}")
end

before = TENANTS.to_h { |tenant| [tenant, kept(tenant)] }
numbers = Queue.new
TRANSACTIONS.times { |number| numbers << number }
seen = Queue.new
wrong = Queue.new
kept("acme") # and this thread gives its connection back
ActiveRecord::Base.connection_handler.clear_active_connections!
Array.new(CLIENTS) { Thread.new { client(numbers, seen, wrong) } }.each(&:join)

seen = Array.new(seen.size) { seen.pop }
strangers = seen.sum do |tenant, _, rows|
  other = (TENANTS - [tenant]).first
  rows.count { |owner, customer| owner != tenant || customer.start_with?("rb #{other} ") }
end
served = seen.group_by { |_, pid| pid }.transform_values { |all| all.map(&:first).uniq.size }
tell(seen.size == TRANSACTIONS, "every transaction was done")
tell(seen.sum { |_, _, rows| rows.size } > TRANSACTIONS, "rows were judged")
tell(strangers.zero?, "no row of another tenant")
tell(wrong.empty?, "no query without a token was answered")
tell(served.size <= MOST, "connections were few")
tell(served.values.all?(2), "each connection served both tenants")
TENANTS.each do |tenant|
  committed = seen.count { |owner, _, _, stays| owner == tenant && stays }
  tell(kept(tenant) - before[tenant] == committed, "#{tenant} has what it committed")
end
puts "told 8"
